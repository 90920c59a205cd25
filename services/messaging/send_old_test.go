package messaging_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

func oldSend(kind, msg string, target ...string) *messagingv1.SendMessageRequest {
	return &messagingv1.SendMessageRequest{
		Org: "acme", App: "shop", TargetType: kind, Target: target, Msg: []byte(msg), From: proto.String("Lena"),
	}
}

// TestOldSend sends in the old form to users, and to groups and rooms, of
// which there are none.
func TestOldSend(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	pushed := r.listen("acme#shop", "omar")
	req := oldSend("users", `{"type":"txt","msg":"hello"}`, "Omar", "omar", "nobody1")
	req.Ext = []byte(`{"k":1}`)
	resp, err := r.send.SendMessage(rest(t.Context()), req)
	require.NoError(t, err)
	require.Len(t, resp.GetResults(), 2)
	require.Equal(t, "omar", resp.GetResults()[0].GetTarget())
	require.Equal(t, "nobody1", resp.GetResults()[1].GetTarget())
	d := next(t, pushed)
	require.Equal(t, resp.GetResults()[0].GetMessageId(), fmt.Sprint(d.GetId()))
	stored := r.archived("lena~omar", 1)
	require.JSONEq(t, `{"bodies":[{"type":"txt","msg":"hello"}],"ext":{"k":1}}`, stored[0].GetPayload())

	// More than account is asked for at once.
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("u%d", i)
	}
	last := r.listen("acme#shop", "u1999")
	resp, err = r.send.SendMessage(rest(t.Context()), oldSend("users", `{"type":"cmd","action":"x"}`, many...))
	require.NoError(t, err)
	require.Len(t, resp.GetResults(), 2000)
	require.Equal(t, resp.GetResults()[1999].GetMessageId(), fmt.Sprint(next(t, last).GetId()))

	for _, kind := range []string{"chatgroups", "chatrooms"} {
		resp, err = r.send.SendMessage(rest(t.Context()), oldSend(kind, `{"type":"txt","msg":"hello"}`, "240000000000001", "240000000000002", "240000000000001"))
		require.NoError(t, err, kind)
		require.Len(t, resp.GetResults(), 2)
		require.Equal(t, "240000000000001", resp.GetResults()[0].GetTarget())
		require.Regexp(t, `^\d{18,19}$`, resp.GetResults()[0].GetMessageId())
		require.NotEqual(t, resp.GetResults()[0].GetMessageId(), resp.GetResults()[1].GetMessageId())
	}
	null := oldSend("users", `{"type":"txt","msg":"null ext"}`, "omar")
	null.Ext = []byte(`null`)
	_, err = r.send.SendMessage(rest(t.Context()), null)
	require.NoError(t, err)
	require.JSONEq(t, `{"bodies":[{"type":"txt","msg":"null ext"}],"ext":{}}`, r.archived("lena~omar", 2)[1].GetPayload())
}

func TestOldSendRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.users.muted["moritz"] = -1
	invalid := errs.Invalid(errs.MessageInvalidRequest)
	kinds := errs.Invalid("target_type can only be 'users' or 'chatgroups' or 'chatrooms'")
	large := errs.MessageRefused("message is too large").WithCode(14007)
	const good = `{"type":"txt","msg":"x"}`
	long := fmt.Sprintf(`{"type":"txt","msg":"%05121d"}`, 0)
	with := func(req *messagingv1.SendMessageRequest, edit func(*messagingv1.SendMessageRequest)) *messagingv1.SendMessageRequest {
		edit(req)
		return req
	}
	for name, c := range map[string]struct {
		req  *messagingv1.SendMessageRequest
		want *errs.Error
	}{
		"empty from":       {with(oldSend("users", good, "omar"), func(q *messagingv1.SendMessageRequest) { q.From = proto.String("") }), errs.Invalid("from can't be empty")},
		"impossible from":  {with(oldSend("users", good, "omar"), func(q *messagingv1.SendMessageRequest) { q.From = proto.String("a b") }), invalid},
		"no kind":          {oldSend("", good, "omar"), kinds},
		"another kind":     {oldSend("user", good, "omar"), kinds},
		"no target":        {oldSend("users", good), invalid},
		"a target of none": {oldSend("users", good, "omar", ""), invalid},
		"2,001 targets":    {oldSend("users", good, make([]string, 2001)...), invalid},
		"no message":       {oldSend("users", ``, "omar"), invalid},
		"empty message":    {oldSend("users", `{}`, "omar"), invalid},
		"message of text":  {oldSend("users", `"x"`, "omar"), invalid},
		"no type":          {oldSend("users", `{"msg":"x"}`, "omar"), invalid},
		"unknown type":     {oldSend("users", `{"type":"smell","msg":"x"}`, "omar"), invalid},
		"no text":          {oldSend("users", `{"type":"txt"}`, "omar"), invalid},
		"no text, group":   {oldSend("chatgroups", `{"type":"txt"}`, "1"), invalid},
		"text of a number": {oldSend("users", `{"type":"txt","msg":7}`, "omar"), errs.InvalidBody()},
		"too large":        {oldSend("users", long, "omar"), large},
		"too large, room":  {oldSend("chatrooms", long, "1"), large},
		"ext of a list":    {with(oldSend("users", good, "omar"), func(q *messagingv1.SendMessageRequest) { q.Ext = []byte(`[]`) }), invalid},
		"routetype":        {with(oldSend("users", good, "omar"), func(q *messagingv1.SendMessageRequest) { q.Routetype = "x" }), invalid},
		"unknown app":      {with(oldSend("users", good, "omar"), func(q *messagingv1.SendMessageRequest) { q.App = "none" }), errs.AppNotFound("acme", "none")},
		"muted": {with(oldSend("users", good, "omar"), func(q *messagingv1.SendMessageRequest) {
			q.App, q.From = "strict", proto.String("moritz")
		}), errs.Forbidden("user moritz is muted")},
		"muted, group": {with(oldSend("chatgroups", good, "1"), func(q *messagingv1.SendMessageRequest) {
			q.App, q.From = "strict", proto.String("moritz")
		}), errs.Forbidden("user moritz is muted")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.send.SendMessage(t.Context(), c.req)
			require.Error(t, err)
			got := errs.From(err)
			require.Equal(t, *c.want, errs.Error{Code: got.Code, Reason: got.Reason, Message: got.Message, Metadata: got.Metadata})
		})
	}
	_, err := r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~omar"})
	require.True(t, errs.Is(err, errs.ReasonNotFound), "nothing was stored")
}
