package routes

import accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"

func mutes() []Route {
	answer := func(data *Value) Answer {
		return Answer{Action: Verb, App: true, Path: always("/mutes"), URI: OfPath, Data: data}
	}
	return []Route{
		{
			Method: accountv1.MuteService_SetGlobalMute_FullMethodName, Rules: []string{"set_global_mute"}, Policy: AppOnly,
			Answer: answer(always(result[string]{"ok"})),
		},
		{
			Method: accountv1.MuteService_GetGlobalMute_FullMethodName, Rules: []string{"get_global_mute"}, Policy: AppOnly,
			Answer: answer(value(muteOf)),
		},
		{
			Method: accountv1.MuteService_ListGlobalMutes_FullMethodName, Rules: []string{"list_global_mutes"},
			Policy: AppOnly, Query: []string{"pageNum", "pageSize"},
			Answer: answer(of(mutePage)),
		},
	}
}

type mute struct {
	// UserID is the qualified form of a user ID.
	UserID    string `json:"userid"`
	Chat      int64  `json:"chat"`
	GroupChat int64  `json:"groupchat"`
	ChatRoom  int64  `json:"chatroom"`
	UnixTime  int64  `json:"unixtime"`
}

func muteOf(req *accountv1.GetGlobalMuteRequest, r *accountv1.GetGlobalMuteResponse) mute {
	return mute{req.GetOrg() + "#" + req.GetApp() + "_" + r.GetUsername(), r.GetChat(), r.GetGroupchat(), r.GetChatroom(), r.GetUnixtime()}
}

// mutedUser is one kind of mute of a user; the field of the other kinds is
// absent.
type mutedUser struct {
	Username  string `json:"username"`
	Chat      *int64 `json:"chat,omitempty"`
	GroupChat *int64 `json:"groupchat,omitempty"`
	ChatRoom  *int64 `json:"chatroom,omitempty"`
}

type mutedUsers struct {
	Data     []mutedUser `json:"data"`
	UnixTime int64       `json:"unixtime"`
}

func mutePage(r *accountv1.ListGlobalMutesResponse) mutedUsers {
	return mutedUsers{each(r.GetMutes(), func(m *accountv1.GlobalMute) mutedUser {
		u, seconds := mutedUser{Username: m.GetUsername()}, m.GetSeconds()
		switch m.GetKind() {
		case "chat":
			u.Chat = &seconds
		case "groupchat":
			u.GroupChat = &seconds
		default:
			u.ChatRoom = &seconds
		}
		return u
	}), r.GetUnixtime()}
}
