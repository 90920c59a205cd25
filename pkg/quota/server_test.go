package quota_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/testkit"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// counter is a service that counts one thing.
type counter struct {
	quotav1.UnimplementedQuotaServiceServer
	thing string
	err   error
}

func (c *counter) GetQuotaUsage(_ context.Context, req *quotav1.GetQuotaUsageRequest) (*quotav1.GetQuotaUsageResponse, error) {
	return &quotav1.GetQuotaUsageResponse{Used: map[string]int64{c.thing + " of " + req.GetOrg() + "/" + req.GetApp(): 1}}, c.err
}

// process is the registrar of a process with several services.
type process struct {
	*grpcx.Channel
	*quota.Server
}

func TestServicesOfOneProcessAnswerEachForItself(t *testing.T) {
	t.Parallel()
	channel := grpcx.NewChannel(grpcx.NewInterceptors(testkit.Logger(t), prometheus.NewRegistry()))
	p := process{channel, &quota.Server{}}
	quotav1.RegisterQuotaServiceServer(p, p.Server)
	quota.Register(p, "account", &counter{thing: "users"})
	quota.Register(p, "broken", &counter{err: errs.Unavailable("database", nil)})
	quota.Register(p, "presence", &counter{thing: "users online"})
	client := quotav1.NewQuotaServiceClient(channel.Conn())
	for service, want := range map[string]map[string]int64{
		"account": {"users of acme/chat": 1}, "presence": {"users online of acme/chat": 1}, "elsewhere": nil, "": nil,
	} {
		r, err := client.GetQuotaUsage(t.Context(), &quotav1.GetQuotaUsageRequest{Service: service, Org: "acme", App: "chat"})
		require.NoError(t, err)
		require.Equal(t, want, r.GetUsed(), service)
	}
	_, err := client.GetQuotaUsage(t.Context(), &quotav1.GetQuotaUsageRequest{Service: "broken"})
	require.True(t, errs.Is(err, errs.ReasonUnavailable), "%v", err)
}

func TestALoneServiceAnswersToo(t *testing.T) {
	t.Parallel()
	channel := grpcx.NewChannel(grpcx.NewInterceptors(testkit.Logger(t), prometheus.NewRegistry()))
	quota.Register(channel, "account", &counter{thing: "users"})
	r, err := quotav1.NewQuotaServiceClient(channel.Conn()).GetQuotaUsage(t.Context(),
		&quotav1.GetQuotaUsageRequest{Service: "account", Org: "acme", App: "chat"})
	require.NoError(t, err)
	require.Len(t, r.GetUsed(), 1)
}
