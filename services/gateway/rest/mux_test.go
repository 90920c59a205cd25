package rest

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

// TestTableAndPathsBelongTogether starts with a table that lacks an entry, and
// with one that has an entry too many.
func TestTableAndPathsBelongTogether(t *testing.T) {
	t.Parallel()
	start := func(change func(routes.Table)) error {
		table := routes.All()
		change(table)
		_, err := New(t.Context(), Config{}, Deps{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}, table)
		return err
	}
	require.NoError(t, start(func(routes.Table) {}))
	require.ErrorContains(t, start(func(t routes.Table) { delete(t, accountv1.UserService_GetUser_FullMethodName) }),
		"/chappe.account.v1.UserService/GetUser has a path and no entry")
	require.ErrorContains(t, start(func(t routes.Table) {
		t[accountv1.UserService_LookupRecipients_FullMethodName] = &routes.Route{Method: accountv1.UserService_LookupRecipients_FullMethodName}
	}), "/chappe.account.v1.UserService/LookupRecipients has an entry in the routes table and no path")
	require.ErrorContains(t, start(func(t routes.Table) {
		t[accountv1.UserService_GetUser_FullMethodName].Query = []string{"nothing"}
	}), "GetUser has no field nothing")
}
