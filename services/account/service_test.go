package account_test

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/outbox"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	"github.com/chappe-im/chappe/services/account"
)

func TestMigrationsHoldTheSharedTables(t *testing.T) {
	t.Parallel()
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	for folder, dialect := range map[string]store.Dialect{"sqlite": store.SQLite, "postgres": store.Postgres} {
		text, err := fs.ReadFile(account.Migrations(), folder+"/00001_accounts.sql")
		require.NoError(t, err)
		require.Contains(t, squeeze(string(text)), squeeze(outbox.Schema(dialect)))
		require.Contains(t, squeeze(string(text)), squeeze(quota.Schema))
		text, err = fs.ReadFile(account.Migrations(), folder+"/00002_usage_highest.sql")
		require.NoError(t, err)
		require.Contains(t, squeeze(string(text)), squeeze(quota.Index))
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	_, err := account.New(account.DefaultConfig(), account.Deps{})
	require.Error(t, err)
	bad := account.Config{}
	err = bad.Validate()
	require.Error(t, err)
	for _, word := range []string{"replicas", "argon2 memory", "argon2 passes", "parallel hashes", "credential cache", "settle timeout"} {
		require.ErrorContains(t, err, word) // all at once
	}
	b := lite(t)
	_, err = account.New(bad, account.Deps{DB: b.db, NATS: b.conn, Apps: b.apps, Logger: testkit.Logger(t), Registerer: prometheus.NewRegistry()})
	require.Error(t, err)
}

func TestStopIsIdempotentAndReadsGoOn(t *testing.T) {
	t.Parallel()
	b := lite(t)
	b.register(t, "amelia")
	stop(t, b.svc)
	stop(t, b.svc)
	require.Equal(t, "amelia", b.get(t, "amelia").GetUsername())
}

// Two instances work on one database: what one changes the other sees, without
// waiting for what it remembers to grow old.
func TestInstancesSeeEachOthersChanges(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *bench) {
		other := *b
		other.conn = testkit.Connect(t, b.nats)
		other.restart()
		b.register(t, "amelia")
		b.setAttributes(t, "amelia", map[string]string{"nickname": "one"})
		require.Eventually(t, func() bool { // also has both remember her
			return b.get(t, "amelia").Nickname == nil && other.get(t, "amelia").Nickname == nil &&
				b.attributes(t, "amelia")["nickname"] == "one" && other.attributes(t, "amelia")["nickname"] == "one"
		}, 10*time.Second, time.Millisecond)

		_, err := b.users.UpdatePushSettings(t.Context(), &accountv1.UpdatePushSettingsRequest{Org: org, App: app, Username: "amelia", Nickname: ptr("two")})
		require.NoError(t, err)
		b.setAttributes(t, "amelia", map[string]string{"nickname": "two"})
		require.Equal(t, "two", b.get(t, "amelia").GetNickname()) // at once where it was changed
		require.Equal(t, "two", b.attributes(t, "amelia")["nickname"])
		require.Eventually(t, func() bool {
			return other.get(t, "amelia").GetNickname() == "two" && other.attributes(t, "amelia")["nickname"] == "two"
		}, 10*time.Second, time.Millisecond)

		_, err = other.users.DeleteUser(t.Context(), &accountv1.DeleteUserRequest{Org: org, App: app, Username: "amelia"})
		require.NoError(t, err)
		require.Empty(t, other.attributes(t, "amelia"))
		require.Eventually(t, func() bool {
			_, err := b.users.GetUser(t.Context(), &accountv1.GetUserRequest{Org: org, App: app, Username: "amelia"})
			return err != nil && len(b.attributes(t, "amelia")) == 0
		}, 10*time.Second, time.Millisecond)
	})
}

// While NATS is away changes are made all the same, and take effect once it is
// back.
func TestChangesOutliveNATSBeingAway(t *testing.T) {
	t.Parallel()
	b := lite(t, func(c *account.Config, _ *account.Deps) { c.SettleTimeout = 100 * time.Millisecond })
	b.register(t, "amelia")
	b.nats.Stop()
	_, err := b.users.ChangePassword(t.Context(), &accountv1.ChangePasswordRequest{Org: org, App: app, Username: "amelia", Newpassword: "n3w"})
	require.NoError(t, err)
	_, err = b.password(t, "amelia", "n3w")
	require.NoError(t, err)
	var waiting int
	require.NoError(t, b.db.Read().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox WHERE subject LIKE '%REVOKED%'`).Scan(&waiting))
	require.Equal(t, 1, waiting)
}
