package routes

import accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"

func mutes() Table {
	t := make(Table)
	add(t, Route{
		Method: accountv1.MuteService_SetGlobalMute_FullMethodName, Rules: []string{"set_global_mute"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.SetGlobalMuteRequest, _ *accountv1.SetGlobalMuteResponse) {
		e.muteHead()
		e.raw("data", `{"result":"ok"}`)
		e.times()
	})
	add(t, Route{
		Method: accountv1.MuteService_GetGlobalMute_FullMethodName, Rules: []string{"get_global_mute"}, Policy: AppOnly,
	}, func(e *Envelope, _ *accountv1.GetGlobalMuteRequest, resp *accountv1.GetGlobalMuteResponse) {
		e.muteHead()
		e.begin("data", '{')
		// The qualified form of a user ID.
		e.str("userid", e.App.Key+"_"+resp.GetUsername())
		e.int("chat", resp.GetChat())
		e.int("groupchat", resp.GetGroupchat())
		e.int("chatroom", resp.GetChatroom())
		e.int("unixtime", resp.GetUnixtime())
		e.end('}')
		e.times()
	})
	add(t, Route{
		Method: accountv1.MuteService_ListGlobalMutes_FullMethodName, Rules: []string{"list_global_mutes"},
		Policy: AppOnly, Query: []string{"pageNum", "pageSize"},
	}, func(e *Envelope, _ *accountv1.ListGlobalMutesRequest, resp *accountv1.ListGlobalMutesResponse) {
		e.muteHead()
		e.begin("data", '{')
		e.begin("data", '[')
		for i, m := range resp.GetMutes() {
			e.comma(i)
			e.Open()
			e.str("username", m.GetUsername())
			e.int(m.GetKind(), m.GetSeconds())
			e.Close()
		}
		e.end(']')
		e.int("unixtime", resp.GetUnixtime())
		e.end('}')
		e.times()
	})
	return t
}

func (e *Envelope) muteHead() {
	e.at("/mutes")
	e.app()
	e.action()
}
