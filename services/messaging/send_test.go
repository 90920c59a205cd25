package messaging_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

func TestSendIsPushedAndArchivedInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	pushed := r.listen("acme#shop", "omar")
	var ids []string
	for i := range 20 {
		resp, err := r.send.SendToUsers(t.Context(), txt("Lena", fmt.Sprintf("m%d", i), "Omar"))
		require.NoError(t, err)
		require.Equal(t, "omar", resp.GetResults()[0].GetTarget())
		ids = append(ids, resp.GetResults()[0].GetMessageId())
	}
	for i, m := range r.archived("lena~omar", 20) {
		require.Equal(t, int64(i+1), m.GetSeq())
		require.Equal(t, ids[i], m.GetId())
		require.Equal(t, "lena", m.GetFrom())
		require.JSONEq(t, fmt.Sprintf(`{"bodies":[{"type":"txt","msg":"m%d"}],"ext":{}}`, i), m.GetPayload())
	}
	for i := range 20 {
		d := next(t, pushed)
		require.Equal(t, int64(i+1), d.GetSeq())
		require.Equal(t, ids[i], strconv.FormatInt(d.GetId(), 10))
		require.Equal(t, "omar", d.GetTo())
	}
}

func TestSendToManyGivesEachTargetItsOwnMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.users.blocked["dario"] = []string{"lena"}
	var to []string
	for i := range 598 {
		to = append(to, fmt.Sprintf("u%d", i))
	}
	to = append(to, "nobody1", "Dario")
	last := r.listen("acme#shop", "u597")
	silent := r.listen("acme#shop", "dario")
	resp, err := r.send.SendToUsers(t.Context(), txt("lena", "all", append(to, "U0")...))
	require.Error(t, err, "601 targets")
	require.True(t, errs.Is(err, errs.ReasonIllegalArgument))
	require.Nil(t, resp)
	resp, err = r.send.SendToUsers(t.Context(), txt("lena", "all", to...))
	require.NoError(t, err)
	require.Len(t, resp.GetResults(), 600)
	seen := map[string]bool{}
	for _, x := range resp.GetResults() {
		require.False(t, seen[x.GetMessageId()])
		seen[x.GetMessageId()] = true
	}
	require.Equal(t, int64(1), next(t, last).GetSeq())
	require.Len(t, r.archived("lena~u597", 1), 1)
	require.Len(t, r.archived("lena~u0", 1), 1)
	require.Empty(t, silent, "a blocked sender's message is not delivered")
	_, err = r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "dario~lena"})
	require.True(t, errs.Is(err, errs.ReasonNotFound))
}

func TestBadSendsAreRefusedAndStoreNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.users.muted["moritz"] = -1
	body := func(n int) []byte {
		b := []byte(`{"msg":"`)
		for range n {
			b = append(b, 'x')
		}
		return append(b, `"}`...)
	}
	for name, c := range map[string]struct {
		edit   func(*messagingv1.SendToUsersRequest)
		reason string
		text   string
	}{
		"empty from":        {func(q *messagingv1.SendToUsersRequest) { q.From = proto.String("") }, errs.ReasonIllegalArgument, "from can't be empty"},
		"no targets":        {func(q *messagingv1.SendToUsersRequest) { q.To = nil }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"unknown type":      {func(q *messagingv1.SendToUsersRequest) { q.Type = "smell" }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"no type":           {func(q *messagingv1.SendToUsersRequest) { q.Type = "" }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"body is no object": {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`[1]`) }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"text is a number":  {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`{"msg":7}`) }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"ext is null":       {func(q *messagingv1.SendToUsersRequest) { q.Ext = []byte(`null`) }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"5121 bytes":        {func(q *messagingv1.SendToUsersRequest) { q.Body = body(5121) }, errs.ReasonTooLarge, errs.ReasonTooLarge},
		"40961 bytes":       {func(q *messagingv1.SendToUsersRequest) { q.Body = body(40961) }, errs.ReasonIllegalArgument, "message is too large"},
		"unknown app":       {func(q *messagingv1.SendToUsersRequest) { q.App = "none" }, errs.ReasonAppNotFound, "Could not find application for acme/none"},
		"globally muted":    {func(q *messagingv1.SendToUsersRequest) { q.From = proto.String("moritz") }, errs.ReasonForbidden, "user moritz is muted"},
		"routetype":         {func(q *messagingv1.SendToUsersRequest) { q.Routetype = "ROUTE_66" }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"custom event":      {func(q *messagingv1.SendToUsersRequest) { q.Type, q.Body = "custom", []byte(`{"customEvent":"a b"}`) }, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
		"location, no height": {func(q *messagingv1.SendToUsersRequest) {
			q.Type, q.Body = "loc", []byte(`{"lat":"x","lng":1,"addr":""}`)
		}, errs.ReasonIllegalArgument, errs.MessageInvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			req := txt("lena", "hi", "omar")
			c.edit(req)
			_, err := r.send.SendToUsers(t.Context(), req)
			require.True(t, errs.Is(err, c.reason), "%v", err)
			require.Equal(t, c.text, errs.From(err).Message)
		})
	}
	_, err := r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~omar"})
	require.True(t, errs.Is(err, errs.ReasonNotFound), "nothing was stored")
	req := txt("lena", "", "omar")
	req.Body = body(5120)
	_, err = r.send.SendToUsers(t.Context(), req)
	require.NoError(t, err, "5,120 bytes pass")
}

func TestRestartGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	for i := range 3 {
		for j := range 10 {
			_, err := r.send.SendToUsers(t.Context(), txt("lena", fmt.Sprintf("%d-%d", i, j), "omar"))
			require.NoError(t, err)
		}
		r.stop()
		r.start()
	}
	for i, m := range r.archived("lena~omar", 30) {
		require.Equal(t, int64(i+1), m.GetSeq())
	}
}
