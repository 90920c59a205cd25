package routes

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

func messages() []Route {
	return []Route{
		{
			Method: messagingv1.MessagingService_SendToUsers_FullMethodName, Rules: []string{"send_message_users"},
			Cost: sendToUsersCost, Policy: AppOnly, Send: true,
			Body: restjson.Body{Decode: decodeSendToUsers, Error: badSend},
			Answer: Answer{
				Action: Verb, App: true, Path: always("/messages/users"), URI: OfPath,
				Data: of(func(r *messagingv1.SendToUsersResponse) sent { return sent(r.GetResults()) }),
			},
		},
		{
			Method: messagingv1.MessagingService_SendMessage_FullMethodName, Rules: []string{"send_message"},
			Cost: sendMessageCost, Policy: AppOnly, Send: true, Query: []string{"useMsgId"},
			Body:   restjson.Body{Hidden: []string{"use_msg_id"}, Error: badSend},
			Answer: Answer{Action: Verb, App: true, Path: always("/messages"), URI: OfPath, Data: value(sentOrIDs), Entities: none},
		},
		{
			Method: messagingv1.MessagingService_GetOfflineMessageCount_FullMethodName,
			Rules:  []string{"get_offline_message_count"}, Policy: AppOnly,
			Answer: Answer{Action: Verb, URI: Self, Entities: none, Count: zero, Data: value(offlineCount)},
		},
		{
			Method: messagingv1.MessagingService_GetOfflineMessageStatus_FullMethodName,
			Rules:  []string{"get_offline_message_status"}, Policy: AppOnly,
			Answer: Answer{Action: Verb, URI: Self, Entities: none, Count: zero, Data: value(offlineStatus)},
		},
	}
}

// sent are the IDs of messages by their targets.
type sent []*messagingv1.SendResult

// AppendJSON writes an object.
func (s sent) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i, r := range s {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = restjson.AppendString(dst, r.GetTarget())
		dst = append(dst, ':')
		dst = restjson.AppendString(dst, r.GetMessageId())
	}
	return append(dst, '}')
}

// Schema describes it to readers of the API document.
func (sent) Schema() string {
	return `{"type":"object","additionalProperties":{"type":"string"}}`
}

// sentOrIDs has a word for each target, or the ID of its message.
func sentOrIDs(req *messagingv1.SendMessageRequest, r *messagingv1.SendMessageResponse) map[string]string {
	all := make(map[string]string, len(r.GetResults()))
	for _, x := range r.GetResults() {
		all[x.GetTarget()] = "success"
		if req.GetUseMsgId() {
			all[x.GetTarget()] = x.GetMessageId()
		}
	}
	return all
}

// badSend is the error of a send that cannot be read.
func badSend(string, error) error { return errs.InvalidBody() }

func offlineCount(req *messagingv1.GetOfflineMessageCountRequest, r *messagingv1.GetOfflineMessageCountResponse) map[string]int64 {
	return map[string]int64{req.GetUsername(): r.GetCount()}
}

func offlineStatus(req *messagingv1.GetOfflineMessageStatusRequest, r *messagingv1.GetOfflineMessageStatusResponse) map[string]string {
	status := "undelivered"
	if r.GetDelivered() {
		status = "delivered"
	}
	return map[string]string{req.GetMessageId(): status}
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
	seen := make(map[ident.UserID]struct{}, len(ids))
	for _, id := range ids {
		seen[ident.FoldUser(id)] = struct{}{}
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

// decodeSendToUsers is on the hottest path of all and therefore by hand.
func decodeSendToUsers(body []byte, _ bool, req proto.Message) error {
	m, _ := req.(*messagingv1.SendToUsersRequest)
	raw, err := restjson.Parse(body)
	if err != nil || len(raw) == 0 {
		return err
	}
	o, ok := restjson.NewObject(raw)
	if !ok {
		return restjson.Invalid()
	}
	// Of several fields of one name the last counts, whatever the others are.
	var in struct{ body, ext, to, from, kind, route, sync, time []byte }
	for {
		name, value, more := o.Next()
		if !more {
			break
		}
		switch string(name) {
		case "body":
			in.body = value
		case "ext":
			in.ext = value
		case "to":
			in.to = value
		case "from":
			in.from = value
		case "type":
			in.kind = value
		case "routetype":
			in.route = value
		case "sync_device", "syncDevice":
			in.sync = value
		case "msg_timestamp", "msgTimestamp":
			in.time = value
		}
	}
	if in.body != nil {
		m.Body = append([]byte{}, in.body...)
	}
	if in.ext != nil {
		m.Ext = append([]byte{}, in.ext...)
	}
	fits := !given(in.body) || in.body[0] == '{'
	if given(in.to) {
		m.To, ok = restjson.Strings(in.to, m.To)
		fits = fits && ok
	}
	if given(in.from) {
		from := ""
		from, ok = text(in.from)
		m.From, fits = &from, fits && ok
	}
	for _, f := range [...]struct {
		raw []byte
		to  *string
	}{{in.kind, &m.Type}, {in.route, &m.Routetype}} {
		if given(f.raw) {
			*f.to, ok = text(f.raw)
			fits = fits && ok
		}
	}
	if given(in.sync) {
		m.SyncDevice, ok = restjson.Bool(in.sync)
		fits = fits && ok
	}
	if given(in.time) {
		m.MsgTimestamp, ok = restjson.Integer(in.time, 64)
		fits = fits && ok
	}
	if !fits {
		return restjson.Invalid()
	}
	return nil
}

// given reports whether a field is there and not null.
func given(raw []byte) bool { return raw != nil && !restjson.IsNull(raw) }

// types are the message types, so that decoding one allocates nothing.
var types = [...]string{"txt", "img", "audio", "video", "file", "loc", "cmd", "custom"}

// text is restjson.String.
func text(raw []byte) (string, bool) {
	for _, t := range types {
		if len(raw) == len(t)+2 && string(raw[1:len(raw)-1]) == t && raw[0] == '"' {
			return t, true
		}
	}
	return restjson.String(raw)
}
