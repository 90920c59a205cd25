package routes

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/names"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/gateway/dialect"
)

func messages() Table {
	t := make(Table)
	add(t, Route{
		Method: messagingv1.MessagingService_SendToUsers_FullMethodName, Rules: []string{"send_message_users"},
		Cost: sendToUsersCost, Policy: AppOnly, Send: true,
	}, func(e *Envelope, _ *messagingv1.SendToUsersRequest, resp *messagingv1.SendToUsersResponse) {
		e.at("/messages/users")
		e.int("timestamp", e.Now.UnixMilli())
		e.app()
		e.action()
		e.begin("data", '{')
		for i, r := range resp.GetResults() {
			e.key(i, r.GetTarget())
			e.Buf = dialect.AppendString(e.Buf, r.GetMessageId())
		}
		e.end('}')
		e.int("duration", e.Now.Sub(e.Began).Milliseconds())
	})
	add(t, Route{
		Method: messagingv1.MessagingService_SendMessage_FullMethodName, Rules: []string{"send_message"},
		Cost: sendMessageCost, Policy: AppOnly, Send: true,
	}, func(e *Envelope, _ *messagingv1.SendMessageRequest, resp *messagingv1.SendMessageResponse) {
		e.action()
		e.app()
		e.at("/messages")
		e.begin("data", '{')
		ids := e.queryIs("useMsgId", "true")
		for i, r := range resp.GetResults() {
			e.key(i, r.GetTarget())
			value := "success"
			if ids {
				value = r.GetMessageId()
			}
			e.Buf = dialect.AppendString(e.Buf, value)
		}
		e.end('}')
		e.noEntities()
		e.times()
	})
	add(t, Route{
		Method: messagingv1.MessagingService_GetOfflineMessageCount_FullMethodName,
		Rules:  []string{"get_offline_message_count"}, Policy: AppOnly,
	}, func(e *Envelope, req *messagingv1.GetOfflineMessageCountRequest, resp *messagingv1.GetOfflineMessageCountResponse) {
		e.action()
		e.selfURI()
		e.noEntities()
		e.begin("data", '{')
		e.key(0, req.GetUsername())
		e.Buf = strconv.AppendInt(e.Buf, resp.GetCount(), 10)
		e.end('}')
		e.times()
		e.int("count", 0)
	})
	add(t, Route{
		Method: messagingv1.MessagingService_GetOfflineMessageStatus_FullMethodName,
		Rules:  []string{"get_offline_message_status"}, Policy: AppOnly,
	}, func(e *Envelope, req *messagingv1.GetOfflineMessageStatusRequest, resp *messagingv1.GetOfflineMessageStatusResponse) {
		status := "undelivered"
		if resp.GetDelivered() {
			status = "delivered"
		}
		e.action()
		e.selfURI()
		e.noEntities()
		e.begin("data", '{')
		e.key(0, req.GetMessageId())
		e.Buf = dialect.AppendString(e.Buf, status)
		e.end('}')
		e.times()
		e.int("count", 0)
	})
	return t
}

func sendToUsersCost(req proto.Message) int64 {
	r, ok := req.(*messagingv1.SendToUsersRequest)
	if !ok {
		return 1
	}
	return distinctUsers(r.GetTo())
}

func sendMessageCost(req proto.Message) int64 {
	r, ok := req.(*messagingv1.SendMessageRequest)
	if !ok {
		return 1
	}
	return distinctUsers(r.GetTarget())
}

// distinctUsers counts users, each once however it is spelled.
func distinctUsers(ids []string) int64 {
	const few = 8
	if len(ids) <= few {
		n := int64(0)
		for i, id := range ids {
			if !containsFold(ids[:i], id) {
				n++
			}
		}
		return n
	}
	seen := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		seen[names.FoldUser(id)] = struct{}{}
	}
	return int64(len(seen))
}

func containsFold(ids []string, id string) bool {
	for _, x := range ids {
		if strings.EqualFold(x, id) {
			return true
		}
	}
	return false
}
