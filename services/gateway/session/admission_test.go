package session_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/msyncclient"
	"github.com/chappe-im/chappe/pkg/tier"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// limits is a limiter that does as its test says; without a word it admits.
type limits struct {
	limiterv1.UnimplementedLimiterServiceServer

	mu     sync.Mutex
	decide func(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error)
	checks []*limiterv1.CheckRequest
}

func (l *limits) Check(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
	l.mu.Lock()
	l.checks = append(l.checks, req)
	decide := l.decide
	l.mu.Unlock()
	if decide == nil {
		return &limiterv1.CheckResponse{Allowed: true}, nil
	}
	return decide(ctx, req)
}

func (l *limits) do(decide func(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decide, l.checks = decide, nil
}

// refuse has one rule refused and all others admitted.
func (l *limits) refuse(rule string) {
	l.do(func(_ context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
		return &limiterv1.CheckResponse{Allowed: req.GetRule() != rule}, nil
	})
}

func (l *limits) asked() (rules []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.checks {
		rules = append(rules, c.GetRule())
	}
	return rules
}

func (r *rig) arrived() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sent)
}

func requireLimited(t *testing.T, err error) {
	t.Helper()
	var refused *msyncclient.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, msyncv1.Status_PERMISSION_DENIED, refused.Code)
	require.Equal(t, "traffic limit", refused.Reason, "devices settle a refusal of code 7 only with the reasons they know")
}

// TestLimitedSends refuses by one rule at a time. What is refused reaches no
// service, the connection stays, the other rule's sends pass, and so does the
// next send once the limit lets it.
func TestLimitedSends(t *testing.T) {
	t.Parallel()
	receipt := func(kind msyncv1.MessageBody_Type) *msyncv1.MessageBody {
		return &msyncv1.MessageBody{Type: kind.Enum(), AckMessageId: proto.Uint64(1), Contents: []*msyncv1.MessageBody_Content{{}}}
	}
	text := func(kind msyncv1.MessageBody_Type) *msyncv1.MessageBody {
		return &msyncv1.MessageBody{Type: kind.Enum(), Contents: []*msyncv1.MessageBody_Content{{
			Type: msyncv1.MessageBody_Content_TEXT.Enum(), Text: proto.String("x"),
		}}}
	}
	const message, ack = tier.RuleClientMessage, tier.RuleClientReceipt
	for name, c := range map[string]struct {
		body *msyncv1.MessageBody
		rule string
	}{
		"text":              {text(msyncv1.MessageBody_CHAT), message},
		"no type":           {&msyncv1.MessageBody{Contents: text(0).GetContents()}, message},
		"group message":     {text(msyncv1.MessageBody_GROUPCHAT), message},
		"edit":              {text(msyncv1.MessageBody_EDIT), message},
		"recall":            {receipt(msyncv1.MessageBody_RECALL), message},
		"read":              {receipt(msyncv1.MessageBody_READ_ACK), ack},
		"delivered":         {receipt(msyncv1.MessageBody_DELIVER_ACK), ack},
		"conversation read": {receipt(msyncv1.MessageBody_CHANNEL_ACK), ack},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, nil)
			ann := r.dial("ann", msyncclient.Options{})
			r.limits.refuse(c.rule)
			for range 3 {
				_, err := ann.SendBody(t.Context(), "bob", msyncclient.DomainUser, c.body)
				requireLimited(t, err)
			}
			require.Equal(t, []string{c.rule, c.rule, c.rule}, r.limits.asked())
			require.Zero(t, r.arrived())
			// Counted right after the answer.
			require.Eventually(t, func() bool {
				return count(t, r.metrics, "chappe_session_sends_total", "limited") == 3
			}, 10*time.Second, time.Millisecond)

			other, body := ack, receipt(msyncv1.MessageBody_READ_ACK)
			if c.rule == ack {
				other, body = message, text(msyncv1.MessageBody_CHAT)
			}
			_, err := ann.SendBody(t.Context(), "bob", msyncclient.DomainUser, body)
			require.NoError(t, err, "%s draws on its own allowance", other)

			r.limits.do(nil)
			_, err = ann.SendBody(t.Context(), "bob", msyncclient.DomainUser, c.body)
			require.NoError(t, err)
			require.Equal(t, 2, r.arrived())
			require.NoError(t, ann.Err())
		})
	}
}

// TestWhatIsCharged looks at what the limiter is told: who sent, and one unit
// for each meta, whether it makes sense or not. Reports that devices make
// unasked are not charged, and neither are pulls and heartbeats.
func TestWhatIsCharged(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ann := r.dial("Ann", msyncclient.Options{})
	meta := func(ns msyncv1.Meta_NameSpace, payload []byte) *msyncv1.Meta {
		return &msyncv1.Meta{To: &msyncv1.JID{Name: proto.String("bob")}, Ns: ns.Enum(), Payload: payload}
	}
	charged := func(rules ...string) {
		t.Helper()
		require.Equal(t, rules, r.limits.asked())
		r.limits.do(nil)
	}
	_, err := ann.SendText(t.Context(), "bob", "x")
	require.NoError(t, err)
	r.limits.mu.Lock()
	got := r.limits.checks[0]
	r.limits.mu.Unlock()
	require.True(t, proto.Equal(&limiterv1.CheckRequest{
		Org: "acme", App: "shop", Rule: tier.RuleClientMessage, Ip: "127.0.0.1", User: "ann", Cost: 1,
	}, got), "%v", got)
	charged(tier.RuleClientMessage)

	for name, m := range map[string]*msyncv1.Meta{
		"a body that is none": meta(msyncv1.Meta_CHAT, []byte{0xff}),
		"a room":              meta(msyncv1.Meta_MUC, nil),
		"an unknown kind":     meta(msyncv1.Meta_QUERY, nil),
	} {
		_, _ = ann.SendMeta(t.Context(), m)
		require.Equal(t, []string{tier.RuleClientMessage}, r.limits.asked(), name)
		r.limits.do(nil)
	}
	_, err = ann.SendMeta(t.Context(), meta(msyncv1.Meta_STATISTIC, nil))
	require.NoError(t, err)
	_, err = ann.Unread(t.Context())
	require.NoError(t, err)
	require.Empty(t, r.limits.asked())
}

// TestSendsPassALimiterThatIsAway has the limiter fail and hang: sends pass,
// soon, and are counted.
func TestSendsPassALimiterThatIsAway(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]func(ctx context.Context, req *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error){
		"fails": func(context.Context, *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
			return nil, errs.Unavailable("the limiter", nil)
		},
		"hangs": func(ctx context.Context, _ *limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, nil)
			ann := r.dial("ann", msyncclient.Options{})
			r.limits.do(decide)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for range 3 {
				_, err := ann.SendText(ctx, "bob", "x")
				require.NoError(t, err)
			}
			require.InDelta(t, 3, count(t, r.metrics, "chappe_session_unlimited_sends_total"), 0)
		})
	}
}
