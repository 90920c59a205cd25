package routes

import (
	"strings"

	"google.golang.org/protobuf/proto"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

// pushes are the calls about what devices are told while nobody is connected.
func pushes() []Route {
	own := func(method, name string, answer Answer, query ...string) Route {
		return Route{Method: method, Unlisted: name, Policy: AppOrSelf, Self: "username", Query: query, Answer: answer}
	}
	ofApp := func(method, name string, answer Answer) Route {
		return Route{Method: method, Unlisted: name, Policy: AppOnly, Answer: answer}
	}
	nicknames := ofApp(accountv1.PushService_SetPushNicknames_FullMethodName, "set_push_nicknames", Answer{
		Action: Verb, App: true, Path: always("/push"), URI: OfPath, Entities: of(nicknamesOf),
	})
	nicknames.Body = restjson.Body{Array: "nicknames"}
	language, template := fixed("/language"), fixed("/template")
	return []Route{
		own(accountv1.PushService_SetPushBinding_FullMethodName, "set_push_binding", bindings((*accountv1.SetPushBindingResponse).GetBindings)),
		own(accountv1.PushService_GetPushBindings_FullMethodName, "get_push_bindings", bindings((*accountv1.GetPushBindingsResponse).GetBindings)),
		nicknames,
		own(accountv1.PushService_SetNotification_FullMethodName, "set_notification",
			notification(value(conversation[*accountv1.SetNotificationRequest, *accountv1.SetNotificationResponse]),
				of(func(r *accountv1.SetNotificationResponse) notice { return noticeOf(r.GetNotification()) }))),
		own(accountv1.PushService_GetNotification_FullMethodName, "get_notification",
			notification(value(conversation[*accountv1.GetNotificationRequest, *accountv1.GetNotificationResponse]),
				of(func(r *accountv1.GetNotificationResponse) notice { return noticeOf(r.GetNotification()) }))),
		own(accountv1.PushService_GetNotifications_FullMethodName, "get_notifications", notification(fixed(""), of(noticesOf)), "user", "group"),
		listNotificationTypes(own),
		own(accountv1.PushService_SetNotificationLanguage_FullMethodName, "set_notification_language",
			notification(language, of(func(r *accountv1.SetNotificationLanguageResponse) pushLanguage { return pushLanguage{r.GetLanguage()} }))),
		own(accountv1.PushService_GetNotificationLanguage_FullMethodName, "get_notification_language",
			notification(language, of(func(r *accountv1.GetNotificationLanguageResponse) pushLanguage { return pushLanguage{r.GetLanguage()} }))),
		own(accountv1.PushService_SetUserTemplate_FullMethodName, "set_user_template",
			notification(template, of(func(r *accountv1.SetUserTemplateResponse) templateName { return templateName{r.GetTemplateName()} }))),
		own(accountv1.PushService_GetUserTemplate_FullMethodName, "get_user_template",
			notification(template, of(func(r *accountv1.GetUserTemplateResponse) templateName { return templateName{r.GetTemplateName()} }))),
		ofApp(accountv1.PushService_PutTemplate_FullMethodName, "put_template", templates((*accountv1.PutTemplateResponse).GetTemplate)),
		ofApp(accountv1.PushService_GetTemplate_FullMethodName, "get_template", templates((*accountv1.GetTemplateResponse).GetTemplate)),
		ofApp(accountv1.PushService_DeleteTemplate_FullMethodName, "delete_template", templates((*accountv1.DeleteTemplateResponse).GetTemplate)),
	}
}

func listNotificationTypes(own func(method, name string, answer Answer, query ...string) Route) Route {
	answer := notification(fixed("/mute/type"), of(func(r *accountv1.ListNotificationTypesResponse) []toldOf {
		return each(r.GetTypes(), asTold)
	}))
	answer.Cursor = of((*accountv1.ListNotificationTypesResponse).GetCursor)
	return own(accountv1.PushService_ListNotificationTypes_FullMethodName, "list_notification_types", answer, "limit", "cursor")
}

type nicknamed struct {
	Username string `json:"username"`
	Nickname string `json:"push_nickname"`
}

func nicknamesOf(r *accountv1.SetPushNicknamesResponse) []nicknamed {
	return each(r.GetNicknames(), func(n *accountv1.PushNickname) nicknamed {
		return nicknamed{n.GetUsername(), n.GetPushNickname()}
	})
}

type boundToken struct {
	DeviceID string `json:"device_id"`
	Notifier string `json:"notifier_name"`
	Device   string `json:"device_token"`
}

func bindings[Resp proto.Message](list func(Resp) []*accountv1.PushBinding) Answer {
	return Answer{Action: Verb, Entities: of(func(r Resp) []boundToken {
		return each(list(r), func(b *accountv1.PushBinding) boundToken {
			return boundToken{b.GetDeviceId(), b.GetNotifierName(), b.GetDeviceToken()}
		})
	})}
}

// notification is an answer about notification settings; its address does not
// name the user.
func notification(at, data *Value) Answer {
	return Answer{Action: Verb, App: true, Path: pathUsers, At: at, URI: OfPath, Data: data}
}

func fixed(rest string) *Value { return always("/users/notification" + rest) }

// conversation is the address of the settings for one conversation.
func conversation[Req interface {
	proto.Message
	GetChatType() string
	GetTarget() string
}, Resp proto.Message](req Req, _ Resp) string {
	return "/users/notification/" + req.GetChatType() + "/" + req.GetTarget()
}

// notice says when a user is told of a conversation.
type notice struct {
	Type     string `json:"type"`
	Interval string `json:"ignoreInterval"`
	// Until is in Unix milliseconds, whatever its name says.
	Until int64 `json:"ignoreDuration"`
}

func noticeOf(n *accountv1.Notification) notice {
	return notice{n.GetType(), n.GetIgnoreInterval(), n.GetIgnoreUntil()}
}

type notices struct {
	User  map[string]notice `json:"user"`
	Group map[string]notice `json:"group"`
}

func noticesOf(r *accountv1.GetNotificationsResponse) notices {
	by := func(list []*accountv1.TargetNotification) map[string]notice {
		all := make(map[string]notice, len(list))
		for _, n := range list {
			if _, ok := all[n.GetTarget()]; !ok {
				all[n.GetTarget()] = noticeOf(n.GetNotification())
			}
		}
		return all
	}
	return notices{by(r.GetUsers()), by(r.GetGroups())}
}

// toldOf is the type of one conversation, with a user or of a group.
type toldOf struct {
	User  string `json:"user,omitempty"`
	Group string `json:"group,omitempty"`
	Value string `json:"value"`
}

func asTold(n *accountv1.NotificationType) toldOf {
	if strings.HasSuffix(n.GetChatType(), "group") {
		return toldOf{Group: n.GetTarget(), Value: n.GetType()}
	}
	return toldOf{User: n.GetTarget(), Value: n.GetType()}
}

type pushLanguage struct {
	Language string `json:"language"`
}

type templateName struct {
	Name string `json:"templateName"`
}

type pushTemplate struct {
	Name    string `json:"name"`
	Created int64  `json:"createAt"`
	Updated int64  `json:"updateAt"`
	Title   string `json:"title_pattern"`
	Content string `json:"content_pattern"`
}

func templates[Resp proto.Message](found func(Resp) *accountv1.Template) Answer {
	return Answer{
		Action: Verb, App: true, Path: always("/notification/template"), URI: OfPath,
		Data: of(func(r Resp) pushTemplate {
			p := found(r)
			return pushTemplate{p.GetName(), p.GetCreated(), p.GetUpdated(), p.GetTitlePattern(), p.GetContentPattern()}
		}),
	}
}
