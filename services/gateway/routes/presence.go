package routes

import (
	"encoding/json"

	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
)

func presence() []Route {
	return []Route{
		{
			Method: presencev1.PresenceService_GetOnlineStatus_FullMethodName, Rules: []string{"get_user_online_status"}, Policy: AppOnly,
			Answer: Answer{
				Action: Verb, URI: Self, Entities: none, Count: zero,
				Data: value(func(req *presencev1.GetOnlineStatusRequest, r *presencev1.GetOnlineStatusResponse) map[string]string {
					return map[string]string{req.GetUsername(): online(r.GetOnline())}
				}),
			},
		},
		{
			Method: presencev1.PresenceService_BatchGetOnlineStatus_FullMethodName,
			Rules:  []string{"get_users_online_status_batch"}, Policy: AppOnly,
			Answer: Answer{Action: "get batch user status", Data: value(onlineList)},
		},
		{
			Method: presencev1.PresenceService_DisconnectUser_FullMethodName, Rules: []string{"disconnect_user"}, Policy: AppOnly,
			Answer: Answer{Action: Verb, URI: Self, Entities: none, Data: done, Count: zero},
		},
		{
			Method: presencev1.ConnectionService_ListConnections_FullMethodName, Unlisted: "list_connections",
			Policy: AppOrSelf, Self: "username",
			Answer: Answer{
				Action: Verb, URI: Self, Entities: none, Count: size((*presencev1.ListConnectionsResponse).GetConnections),
				Path: value(func(req *presencev1.ListConnectionsRequest, _ *presencev1.ListConnectionsResponse) string {
					return "/users/" + req.GetUsername() + "/resources"
				}),
				Data: of(func(r *presencev1.ListConnectionsResponse) []connection {
					return each(r.GetConnections(), connectionOf)
				}),
			},
		},
		notNull(presenceStatus(presencev1.PresenceService_SetPresence_FullMethodName, "set_presence", resultOK), "ext"),
		presenceStatus(presencev1.PresenceService_SubscribePresence_FullMethodName, "subscribe_presence",
			of(func(r *presencev1.SubscribePresenceResponse) result[[]status] {
				return result[[]status]{each(r.GetResult(), statusWithExpiry)}
			})),
		presenceStatus(presencev1.PresenceService_GetPresence_FullMethodName, "get_presence_batch",
			of(func(r *presencev1.GetPresenceResponse) result[[]status] {
				return result[[]status]{each(r.GetResult(), statusOf)}
			})),
		unsubscribe(presenceStatus(presencev1.PresenceService_UnsubscribePresence_FullMethodName, "unsubscribe_presence", resultOK)),
		presenceStatus(presencev1.PresenceService_ListPresenceSubscriptions_FullMethodName, "list_presence_subscriptions",
			of(subscriptionPage), "pageNum", "pageSize"),
	}
}

var resultOK = always(result[string]{"ok"})

// presenceStatus is an entry of the calls that answer with a result and nothing
// else, also when they fail. Their numbers are strings.
func presenceStatus(method, rule string, answer *Value, query ...string) Route {
	return Route{
		Method: method, Rules: []string{rule}, Policy: AppOrSelf, Self: "username", Query: query, ErrorResult: true,
		Answer: Answer{Plain: answer},
	}
}

// notNull refuses null for a field.
func notNull(r Route, field string) Route {
	r.Body.Null = map[string]string{field: field + " cannot be null"}
	return r
}

// unsubscribe takes a bare array of user IDs, or an object that holds it as
// users or usernames.
func unsubscribe(r Route) Route {
	r.Body.Array, r.Body.Aliases = "usernames", map[string]string{"users": "usernames"}
	return r
}

func online(is bool) string {
	if is {
		return "online"
	}
	return "offline"
}

// onlineList has an object for each user asked about, in their order.
func onlineList(req *presencev1.BatchGetOnlineStatusRequest, r *presencev1.BatchGetOnlineStatusResponse) []map[string]string {
	n := min(len(r.GetOnline()), len(req.GetUsernames()))
	all := make([]map[string]string, n)
	for i := range all {
		all[i] = map[string]string{req.GetUsernames()[i]: online(r.GetOnline()[i])}
	}
	return all
}

type connection struct {
	Resource string `json:"res"`
	Platform string `json:"platform"`
}

func connectionOf(c *presencev1.Connection) connection {
	return connection{c.GetResource(), c.GetOs()}
}

// status is a user's presence.
type status struct {
	UID      string   `json:"uid"`
	LastTime int64    `json:"last_time,string"`
	Expiry   *int64   `json:"expiry,omitempty,string"`
	Ext      string   `json:"ext"`
	Status   statuses `json:"status"`
}

// statuses are the states of a user's devices. None are an empty array: clients
// tell by it that nobody is there.
type statuses map[string]string

// MarshalJSON writes an object or an empty array.
func (s statuses) MarshalJSON() ([]byte, error) {
	if len(s) == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal(map[string]string(s))
}

// Schema describes it to readers of the API document.
func (statuses) Schema() string {
	return `{"oneOf":[{"type":"object","additionalProperties":{"type":"string"}},{"type":"array","maxItems":0,"items":{"type":"string"}}]}`
}

func statusOf(p *presencev1.Presence) status {
	return status{UID: p.GetUid(), LastTime: p.GetLastTime(), Ext: p.GetExt(), Status: p.GetStatus()}
}

func statusWithExpiry(p *presencev1.Presence) status {
	s, expiry := statusOf(p), p.GetExpiry()
	s.Expiry = &expiry
	return s
}

type subscription struct {
	UID    string `json:"uid"`
	Expiry int64  `json:"expiry,string"`
}

type subscriptions struct {
	Total int64          `json:"totalnum,string"`
	List  []subscription `json:"sublist"`
}

func subscriptionPage(r *presencev1.ListPresenceSubscriptionsResponse) result[subscriptions] {
	return result[subscriptions]{subscriptions{r.GetTotal(), each(r.GetSubscriptions(), func(s *presencev1.PresenceSubscription) subscription {
		return subscription{s.GetUid(), s.GetExpiry()}
	})}}
}
