package routes

import (
	"strconv"

	presencev1 "github.com/chappe-im/chappe/proto/gen/chappe/presence/v1"
	"github.com/chappe-im/chappe/services/gateway/dialect"
)

func presence() Table {
	t := make(Table)
	add(t, Route{
		Method: presencev1.PresenceService_GetOnlineStatus_FullMethodName, Rules: []string{"get_user_online_status"}, Policy: AppOnly,
	}, func(e *Envelope, req *presencev1.GetOnlineStatusRequest, resp *presencev1.GetOnlineStatusResponse) {
		e.action()
		e.selfURI()
		e.noEntities()
		e.begin("data", '{')
		e.key(0, req.GetUsername())
		e.online(resp.GetOnline())
		e.end('}')
		e.times()
		e.int("count", 0)
	})
	add(t, Route{
		Method: presencev1.PresenceService_BatchGetOnlineStatus_FullMethodName,
		Rules:  []string{"get_users_online_status_batch"}, Policy: AppOnly,
	}, func(e *Envelope, req *presencev1.BatchGetOnlineStatusRequest, resp *presencev1.BatchGetOnlineStatusResponse) {
		e.raw("action", `"get batch user status"`)
		e.begin("data", '[')
		for i, online := range resp.GetOnline() {
			if i >= len(req.GetUsernames()) {
				break
			}
			e.comma(i)
			e.Buf = append(e.Buf, '{')
			e.key(0, req.GetUsernames()[i])
			e.online(online)
			e.Buf = append(e.Buf, '}')
		}
		e.end(']')
		e.times()
	})
	add(t, Route{
		Method: presencev1.PresenceService_DisconnectUser_FullMethodName, Rules: []string{"disconnect_user"}, Policy: AppOnly,
	}, func(e *Envelope, _ *presencev1.DisconnectUserRequest, _ *presencev1.DisconnectUserResponse) {
		e.action()
		e.selfURI()
		e.noEntities()
		e.raw("data", `{"result":true}`)
		e.times()
		e.int("count", 0)
	})
	add(t, Route{
		Method: presencev1.ConnectionService_ListConnections_FullMethodName, Unlisted: "list_connections",
		Policy: AppOrSelf, Self: "username",
	}, func(e *Envelope, req *presencev1.ListConnectionsRequest, resp *presencev1.ListConnectionsResponse) {
		e.action()
		e.str("path", pathUsers+"/"+req.GetUsername()+"/resources")
		e.selfURI()
		e.noEntities()
		e.begin("data", '[')
		for i, c := range resp.GetConnections() {
			e.comma(i)
			e.Open()
			e.str("res", c.GetResource())
			e.str("platform", c.GetOs())
			e.Close()
		}
		e.end(']')
		e.times()
		e.int("count", int64(len(resp.GetConnections())))
	})
	presenceStatuses(t)
	return t
}

// presenceStatuses are the calls that answer with a result and nothing else.
// Their numbers are strings.
func presenceStatuses(t Table) {
	self := Route{Policy: AppOrSelf, Self: "username", ErrorResult: true}
	route := func(method, rule string, query ...string) Route {
		r := self
		r.Method, r.Rules, r.Query = method, []string{rule}, query
		return r
	}
	add(t, route(presencev1.PresenceService_SetPresence_FullMethodName, "set_presence"),
		func(e *Envelope, _ *presencev1.SetPresenceRequest, _ *presencev1.SetPresenceResponse) {
			e.raw("result", `"ok"`)
		})
	add(t, route(presencev1.PresenceService_SubscribePresence_FullMethodName, "subscribe_presence"),
		func(e *Envelope, _ *presencev1.SubscribePresenceRequest, resp *presencev1.SubscribePresenceResponse) {
			e.presences(resp.GetResult(), true)
		})
	add(t, route(presencev1.PresenceService_GetPresence_FullMethodName, "get_presence_batch"),
		func(e *Envelope, _ *presencev1.GetPresenceRequest, resp *presencev1.GetPresenceResponse) {
			e.presences(resp.GetResult(), false)
		})
	add(t, route(presencev1.PresenceService_UnsubscribePresence_FullMethodName, "unsubscribe_presence"),
		func(e *Envelope, _ *presencev1.UnsubscribePresenceRequest, _ *presencev1.UnsubscribePresenceResponse) {
			e.raw("result", `"ok"`)
		})
	add(t, route(presencev1.PresenceService_ListPresenceSubscriptions_FullMethodName, "list_presence_subscriptions", "pageNum", "pageSize"),
		func(e *Envelope, _ *presencev1.ListPresenceSubscriptionsRequest, resp *presencev1.ListPresenceSubscriptionsResponse) {
			e.begin("result", '{')
			e.intString("totalnum", resp.GetTotal())
			e.begin("sublist", '[')
			for i, s := range resp.GetSubscriptions() {
				e.comma(i)
				e.Open()
				e.str("uid", s.GetUid())
				e.intString("expiry", s.GetExpiry())
				e.Close()
			}
			e.end(']')
			e.end('}')
		})
}

func (e *Envelope) online(online bool) {
	status := "offline"
	if online {
		status = "online"
	}
	e.Buf = dialect.AppendString(e.Buf, status)
}

func (e *Envelope) presences(list []*presencev1.Presence, expiry bool) {
	e.begin("result", '[')
	for i, p := range list {
		e.comma(i)
		e.Open()
		e.str("uid", p.GetUid())
		e.intString("last_time", p.GetLastTime())
		if expiry {
			e.intString("expiry", p.GetExpiry())
		}
		e.str("ext", p.GetExt())
		if len(p.GetStatus()) == 0 {
			e.raw("status", "[]") // clients tell nobody from somebody by it
		} else {
			e.name("status")
			e.stringMap(p.GetStatus())
		}
		e.Close()
	}
	e.end(']')
}

// intString writes a number as a string.
func (e *Envelope) intString(name string, n int64) {
	e.name(name)
	e.Buf = append(e.Buf, '"')
	e.Buf = strconv.AppendInt(e.Buf, n, 10)
	e.Buf = append(e.Buf, '"')
}
