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
	blocking := r.listen("acme#shop", "dario")
	resp, err := r.send.SendToUsers(t.Context(), txt("lena", "all", append(to, "U0")...))
	require.Error(t, err, "601 targets")
	require.Equal(t, "params to's size can't exceed limit 600", errs.From(err).Message)
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
	require.Equal(t, int64(1), next(t, blocking).GetSeq(), "block lists do not count here")
	_, err = r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~nobody1"})
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
	type edit = func(*messagingv1.SendToUsersRequest)
	send := func(text string) *errs.Error { return errs.MessageRefused(text) }
	for name, c := range map[string]struct {
		edit edit
		want *errs.Error
	}{
		"empty from":        {func(q *messagingv1.SendToUsersRequest) { q.From = proto.String("") }, send("param from can't be empty").WithCode(14001)},
		"impossible from":   {func(q *messagingv1.SendToUsersRequest) { q.From = proto.String("a b") }, send("param from is illegal")},
		"no targets":        {func(q *messagingv1.SendToUsersRequest) { q.To = nil }, send("param to can't be empty").WithCode(14002)},
		"a target of no ID": {func(q *messagingv1.SendToUsersRequest) { q.To = []string{"omar", ""} }, send("param to can't be empty").WithCode(14002)},
		"unknown type":      {func(q *messagingv1.SendToUsersRequest) { q.Type = "smell" }, send("param type is illegal")},
		"no type":           {func(q *messagingv1.SendToUsersRequest) { q.Type = "" }, send("param type can't be empty")},
		"no body":           {func(q *messagingv1.SendToUsersRequest) { q.Body = nil }, send("param body can't be empty").WithCode(14005)},
		"null for a body":   {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`null`) }, send("param body can't be empty").WithCode(14005)},
		"empty body":        {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`{ }`) }, send("param body can't be empty").WithCode(14005)},
		"body is no object": {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`[1]`) }, send("param body is illegal")},
		"text is a number":  {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`{"msg":7}`) }, errs.InvalidBody()},
		"no text":           {func(q *messagingv1.SendToUsersRequest) { q.Body = []byte(`{"x":7}`) }, send("param body.msg is illegal")},
		"ext is null":       {func(q *messagingv1.SendToUsersRequest) { q.Ext = []byte(`null`) }, send("param ext must be JSONObject")},
		"ext is a list":     {func(q *messagingv1.SendToUsersRequest) { q.Ext = []byte(`[]`) }, send("param ext must be JSONObject")},
		"601 targets":       {func(q *messagingv1.SendToUsersRequest) { q.To = make601() }, send("params to's size can't exceed limit 600")},
		"5121 bytes":        {func(q *messagingv1.SendToUsersRequest) { q.Body = body(5121) }, send("message is too large").WithCode(14007)},
		"40961 bytes":       {func(q *messagingv1.SendToUsersRequest) { q.Body = body(40961) }, send("message is too large").WithCode(14007)},
		"unknown app":       {func(q *messagingv1.SendToUsersRequest) { q.App = "none" }, errs.AppNotFound("acme", "none")},
		"routetype":         {func(q *messagingv1.SendToUsersRequest) { q.Routetype = "ROUTE_66" }, send("param routetype is illegal")},
		"before all time":   {func(q *messagingv1.SendToUsersRequest) { q.MsgTimestamp = -1 }, send("param msg_timestamp is illegal")},
		"custom event":      {func(q *messagingv1.SendToUsersRequest) { q.Type, q.Body = "custom", []byte(`{"customEvent":"a b"}`) }, send("param body.customEvent is illegal")},
		"muted, strict app": {func(q *messagingv1.SendToUsersRequest) { q.App, q.From = "strict", proto.String("moritz") }, errs.Forbidden("user moritz is muted")},
		"size before mute": {func(q *messagingv1.SendToUsersRequest) {
			q.App, q.From, q.Body = "strict", proto.String("moritz"), body(5121)
		}, send("message is too large").WithCode(14007)},
		"from before to":     {func(q *messagingv1.SendToUsersRequest) { q.From, q.To = proto.String(""), nil }, send("param from can't be empty").WithCode(14001)},
		"to before type":     {func(q *messagingv1.SendToUsersRequest) { q.To, q.Type = nil, "" }, send("param to can't be empty").WithCode(14002)},
		"type before body":   {func(q *messagingv1.SendToUsersRequest) { q.Type, q.Body = "", nil }, send("param type can't be empty")},
		"body before ext":    {func(q *messagingv1.SendToUsersRequest) { q.Body, q.Ext = nil, []byte(`7`) }, send("param body can't be empty").WithCode(14005)},
		"ext before targets": {func(q *messagingv1.SendToUsersRequest) { q.Ext, q.To = []byte(`7`), make601() }, send("param ext must be JSONObject")},
		"targets before all": {func(q *messagingv1.SendToUsersRequest) { q.Type, q.To = "smell", make601() }, send("params to's size can't exceed limit 600")},
		"location, no height": {func(q *messagingv1.SendToUsersRequest) {
			q.Type, q.Body = "loc", []byte(`{"lat":"x","lng":1,"addr":""}`)
		}, send("param body.lat is illegal")},
	} {
		t.Run(name, func(t *testing.T) {
			req := txt("lena", "hi", "omar")
			c.edit(req)
			_, err := r.send.SendToUsers(t.Context(), req)
			got := errs.From(err)
			require.Error(t, err)
			require.Equal(t, *c.want, errs.Error{Code: got.Code, Reason: got.Reason, Message: got.Message, Metadata: got.Metadata})
		})
	}
	_, err := r.send.ListMessages(t.Context(), &messagingv1.ListMessagesRequest{Org: "acme", App: "shop", Conversation: "lena~omar"})
	require.True(t, errs.Is(err, errs.ReasonNotFound), "nothing was stored")
	req := txt("lena", "", "omar")
	req.Body = body(5120)
	_, err = r.send.SendToUsers(t.Context(), req)
	require.NoError(t, err, "5,120 bytes pass")
	_, err = r.send.SendToUsers(t.Context(), txt("moritz", "hi", "omar"))
	require.NoError(t, err, "a mute does not count where the app does not say so")
	req = txt("", "hi", "omar")
	req.App, req.From = "strict", nil
	_, err = r.send.SendToUsers(t.Context(), req)
	require.NoError(t, err, "the app itself is not muted")
}

func make601() []string {
	to := make([]string, 601)
	for i := range to {
		to[i] = fmt.Sprintf("u%d", i)
	}
	return to
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
