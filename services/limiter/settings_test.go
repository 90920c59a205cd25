package limiter

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// TestSetAppSettings turns a switch on and off: what is absent stays, what does
// not change makes no entry in the history, and other changes keep it.
func TestSetAppSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := r.CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: "acme", App: "shop", Tier: "free"})
	require.NoError(t, err)
	set := func(on *bool) bool {
		t.Helper()
		resp, err := r.SetAppSettings(t.Context(), &limiterv1.SetAppSettingsRequest{Org: "acme", App: "shop", RestSendChecks: on, Actor: "eve"})
		require.NoError(t, err)
		app, ok := r.catalog.App("acme", "shop")
		require.True(t, ok)
		require.Equal(t, resp.GetApp().GetSettings().GetRestSendChecks(), app.Settings.RESTSendChecks, "in force when the call returns")
		return app.Settings.RESTSendChecks
	}
	require.False(t, set(nil), "off at first")
	require.True(t, set(proto.Bool(true)))
	require.True(t, set(proto.Bool(true)))
	require.True(t, set(nil))
	_, err = r.SetAppTier(t.Context(), &limiterv1.SetAppTierRequest{Org: "acme", App: "shop", Tier: "basic"})
	require.NoError(t, err)
	require.True(t, set(nil), "another change leaves it")
	require.False(t, set(proto.Bool(false)))

	history, err := r.ListChanges(t.Context(), &limiterv1.ListChangesRequest{Subject: "app/acme/shop"})
	require.NoError(t, err)
	var details []string
	for _, c := range history.GetChanges() {
		if c.GetActor() == "eve" {
			details = append(details, c.GetDetails()...)
		}
	}
	require.Equal(t, []string{"rest_send_checks: true -> false", "rest_send_checks: false -> true"}, details)
	_, err = r.SetAppSettings(t.Context(), &limiterv1.SetAppSettingsRequest{Org: "acme", App: "none", RestSendChecks: proto.Bool(true)})
	require.True(t, errs.Is(err, errs.ReasonAppNotFound))
}
