package revocation_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/chappe-im/chappe/pkg/embed"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/revocation"
	"github.com/chappe-im/chappe/pkg/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const app = "acme#chat"

var at = time.UnixMilli(1_700_000_000_000)

func publish(t *testing.T, conn *natsx.Conn, subject string, data []byte) {
	t.Helper()
	require.NoError(t, conn.PublishStored(t.Context(), subject, data, ""))
}

func user(t *testing.T, conn *natsx.Conn, name string, before time.Time) {
	t.Helper()
	subject, data := revocation.UserEntry(ident.User{App: ident.AppKey(app), ID: ident.UserID(name)}, before)
	publish(t, conn, subject, data)
}

func watch(t *testing.T, conn *natsx.Conn) *revocation.List {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := revocation.Watch(ctx, conn, 1, testkit.Logger(t))
	require.NoError(t, err)
	t.Cleanup(l.Stop)
	return l
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 10*time.Second, time.Millisecond)
}

func TestTokensIssuedBeforeAreVoid(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	l := watch(t, conn)
	require.False(t, l.Revoked(app, "amelia", at))
	user(t, conn, "amelia", at)
	user(t, conn, "a.b-c_d", at)
	eventually(t, func() bool { return l.Len() == 2 })
	for _, c := range []struct {
		name, app, user string
		issued          time.Time
		want            bool
	}{
		{"a millisecond before", app, "amelia", at.Add(-time.Millisecond), true},
		{"long before", app, "amelia", time.UnixMilli(1), true},
		{"that millisecond", app, "amelia", at, false},
		{"after", app, "amelia", at.Add(time.Hour), false},
		{"dots in the name", app, "a.b-c_d", at.Add(-1e9), true},
		{"another user", app, "bruno", at.Add(-1e9), false},
		{"the app's own token", app, "", at.Add(-1e9), false},
		{"another app", "acme#chat2", "amelia", at.Add(-1e9), false},
	} {
		require.Equal(t, c.want, l.Revoked(c.app, c.user, c.issued), c.name)
	}
}

func TestAppsRevocationVoidsAllItsTokens(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	l := watch(t, conn)
	subject, data := revocation.AppEntry(ident.AppKey(app), at)
	publish(t, conn, subject, data)
	eventually(t, func() bool { return l.Len() == 1 })
	require.True(t, l.Revoked(app, "", at.Add(-1e9)))
	require.True(t, l.Revoked(app, "amelia", at.Add(-1e9)))
	require.False(t, l.Revoked(app, "amelia", at))
	require.False(t, l.Revoked("acme#other", "amelia", at.Add(-1e9)))
}

func TestInstantsOnlyGrow(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	l := watch(t, conn)
	user(t, conn, "amelia", at.Add(time.Hour))
	eventually(t, func() bool { return l.Len() == 1 })
	user(t, conn, "amelia", at) // an older one, late
	user(t, conn, "marker", at)
	eventually(t, func() bool { return l.Len() == 2 })
	require.True(t, l.Revoked(app, "amelia", at.Add(time.Minute)))
}

func TestUnreadableEntriesAreSteppedOver(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	l := watch(t, conn)
	for _, key := range []string{"x", "u.acme/chat", "a.acme/chat.u", "z.acme/chat.u", "u.acme/chat.u"} {
		publish(t, conn, "$KV."+revocation.Bucket+"."+key, []byte("no number"))
	}
	user(t, conn, "amelia", at)
	eventually(t, func() bool { return l.Len() == 1 })
	require.True(t, l.Revoked(app, "amelia", at.Add(-1e9)))
}

func TestListSurvivesRestarts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() (*embed.NATS, *natsx.Conn) {
		s, err := embed.StartNATS(embed.NATSConfig{Dir: dir, Logger: testkit.Logger(t)})
		require.NoError(t, err)
		return s, testkit.Connect(t, s)
	}
	s, conn := start()
	l := watch(t, conn)
	for i := range 500 {
		user(t, conn, fmt.Sprint("u", i), at)
	}
	l.Stop()
	s.Stop()
	s, conn = start()
	t.Cleanup(s.Stop)
	again := watch(t, conn) // complete when Watch returns
	require.Equal(t, 500, again.Len())
	require.True(t, again.Revoked(app, "u499", at.Add(-1e9)))
}

func TestWatchGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	conn := testkit.NATS(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := revocation.Watch(ctx, conn, 1, testkit.Logger(t))
	require.Error(t, err)
}

func BenchmarkRevoked(b *testing.B) {
	conn := testkit.NATS(b)
	l, err := revocation.Watch(b.Context(), conn, 1, testkit.Logger(b))
	require.NoError(b, err)
	b.Cleanup(l.Stop)
	subject, data := revocation.UserEntry(ident.User{App: ident.AppKey(app), ID: "amelia"}, at)
	require.NoError(b, conn.PublishStored(b.Context(), subject, data, ""))
	require.Eventually(b, func() bool { return l.Len() == 1 }, 10*time.Second, time.Millisecond)
	b.ReportAllocs()
	for b.Loop() {
		l.Revoked(app, "amelia", at)
	}
}
