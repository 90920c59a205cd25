package routes

import (
	"strings"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// pushes are the calls about what devices are told while nobody is connected.
func pushes() Table {
	t := make(Table)
	own := func(method, name string, query ...string) Route {
		return Route{Method: method, Unlisted: name, Policy: AppOrSelf, Self: "username", Query: query}
	}
	ofApp := func(method, name string) Route { return Route{Method: method, Unlisted: name, Policy: AppOnly} }
	add(t, own(accountv1.PushService_SetPushBinding_FullMethodName, "set_push_binding"),
		func(e *Envelope, _ *accountv1.SetPushBindingRequest, resp *accountv1.SetPushBindingResponse) {
			e.bindings(resp.GetBindings())
		})
	add(t, own(accountv1.PushService_GetPushBindings_FullMethodName, "get_push_bindings"),
		func(e *Envelope, _ *accountv1.GetPushBindingsRequest, resp *accountv1.GetPushBindingsResponse) {
			e.bindings(resp.GetBindings())
		})
	add(t, ofApp(accountv1.PushService_SetPushNicknames_FullMethodName, "set_push_nicknames"),
		func(e *Envelope, _ *accountv1.SetPushNicknamesRequest, resp *accountv1.SetPushNicknamesResponse) {
			e.action()
			e.app()
			e.at("/push")
			e.begin("entities", '[')
			for i, n := range resp.GetNicknames() {
				e.comma(i)
				e.Open()
				e.str("username", n.GetUsername())
				e.str("push_nickname", n.GetPushNickname())
				e.Close()
			}
			e.end(']')
			e.times()
		})
	notifications(t, own)
	add(t, own(accountv1.PushService_SetNotificationLanguage_FullMethodName, "set_notification_language"),
		func(e *Envelope, _ *accountv1.SetNotificationLanguageRequest, resp *accountv1.SetNotificationLanguageResponse) {
			e.notification("/language")
			e.one("language", resp.GetLanguage())
		})
	add(t, own(accountv1.PushService_GetNotificationLanguage_FullMethodName, "get_notification_language"),
		func(e *Envelope, _ *accountv1.GetNotificationLanguageRequest, resp *accountv1.GetNotificationLanguageResponse) {
			e.notification("/language")
			e.one("language", resp.GetLanguage())
		})
	add(t, own(accountv1.PushService_SetUserTemplate_FullMethodName, "set_user_template"),
		func(e *Envelope, _ *accountv1.SetUserTemplateRequest, resp *accountv1.SetUserTemplateResponse) {
			e.notification("/template")
			e.one("templateName", resp.GetTemplateName())
		})
	add(t, own(accountv1.PushService_GetUserTemplate_FullMethodName, "get_user_template"),
		func(e *Envelope, _ *accountv1.GetUserTemplateRequest, resp *accountv1.GetUserTemplateResponse) {
			e.notification("/template")
			e.one("templateName", resp.GetTemplateName())
		})
	add(t, ofApp(accountv1.PushService_PutTemplate_FullMethodName, "put_template"),
		func(e *Envelope, _ *accountv1.PutTemplateRequest, resp *accountv1.PutTemplateResponse) {
			e.template(resp.GetTemplate())
		})
	add(t, ofApp(accountv1.PushService_GetTemplate_FullMethodName, "get_template"),
		func(e *Envelope, _ *accountv1.GetTemplateRequest, resp *accountv1.GetTemplateResponse) {
			e.template(resp.GetTemplate())
		})
	add(t, ofApp(accountv1.PushService_DeleteTemplate_FullMethodName, "delete_template"),
		func(e *Envelope, _ *accountv1.DeleteTemplateRequest, resp *accountv1.DeleteTemplateResponse) {
			e.template(resp.GetTemplate())
		})
	return t
}

func notifications(t Table, own func(method, name string, query ...string) Route) {
	add(t, own(accountv1.PushService_SetNotification_FullMethodName, "set_notification"),
		func(e *Envelope, req *accountv1.SetNotificationRequest, resp *accountv1.SetNotificationResponse) {
			e.notification("/" + req.GetChatType() + "/" + req.GetTarget())
			e.name("data")
			e.settings(resp.GetNotification())
			e.times()
		})
	add(t, own(accountv1.PushService_GetNotification_FullMethodName, "get_notification"),
		func(e *Envelope, req *accountv1.GetNotificationRequest, resp *accountv1.GetNotificationResponse) {
			e.notification("/" + req.GetChatType() + "/" + req.GetTarget())
			e.name("data")
			e.settings(resp.GetNotification())
			e.times()
		})
	add(t, own(accountv1.PushService_GetNotifications_FullMethodName, "get_notifications", "user", "group"),
		func(e *Envelope, _ *accountv1.GetNotificationsRequest, resp *accountv1.GetNotificationsResponse) {
			e.notification("")
			e.begin("data", '{')
			e.settingsOf("user", resp.GetUsers())
			e.settingsOf("group", resp.GetGroups())
			e.end('}')
			e.times()
		})
	add(t, own(accountv1.PushService_ListNotificationTypes_FullMethodName, "list_notification_types", "limit", "cursor"),
		func(e *Envelope, _ *accountv1.ListNotificationTypesRequest, resp *accountv1.ListNotificationTypesResponse) {
			e.notification("/mute/type")
			e.begin("data", '[')
			for i, n := range resp.GetTypes() {
				e.comma(i)
				e.Open()
				e.str(strings.TrimPrefix(n.GetChatType(), "chat"), n.GetTarget())
				e.str("value", n.GetType())
				e.Close()
			}
			e.end(']')
			e.times()
			e.cursor(resp.GetCursor())
		})
}

// bindings writes an answer about push tokens.
func (e *Envelope) bindings(list []*accountv1.PushBinding) {
	e.begin("entities", '[')
	for i, b := range list {
		e.comma(i)
		e.Open()
		e.str("device_id", b.GetDeviceId())
		e.str("notifier_name", b.GetNotifierName())
		e.str("device_token", b.GetDeviceToken())
		e.Close()
	}
	e.end(']')
	e.action()
	e.times()
}

// notification begins an answer about notification settings; its address does
// not name the user.
func (e *Envelope) notification(rest string) {
	e.action()
	e.app()
	e.str("path", pathUsers)
	e.uri(pathUsers + "/notification" + rest)
}

// one ends an answer whose data has one field.
func (e *Envelope) one(name, value string) {
	e.begin("data", '{')
	e.str(name, value)
	e.end('}')
	e.times()
}

func (e *Envelope) settings(n *accountv1.Notification) {
	e.Open()
	e.str("type", n.GetType())
	e.str("ignoreInterval", n.GetIgnoreInterval())
	e.int("ignoreDuration", n.GetIgnoreUntil())
	e.Close()
}

func (e *Envelope) settingsOf(name string, list []*accountv1.TargetNotification) {
	e.begin(name, '{')
	seen := make(map[string]bool, len(list))
	for _, n := range list {
		if seen[n.GetTarget()] {
			continue
		}
		e.key(len(seen), n.GetTarget())
		e.settings(n.GetNotification())
		seen[n.GetTarget()] = true
	}
	e.end('}')
}

func (e *Envelope) template(p *accountv1.Template) {
	e.action()
	e.app()
	e.at("/notification/template")
	e.begin("data", '{')
	e.str("name", p.GetName())
	e.int("createAt", p.GetCreated())
	e.int("updateAt", p.GetUpdated())
	e.str("title_pattern", p.GetTitlePattern())
	e.str("content_pattern", p.GetContentPattern())
	e.end('}')
	e.times()
}
