package messaging

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

func TestQuietHours(t *testing.T) {
	t.Parallel()
	paris, err := time.LoadLocation("Europe/Paris")
	require.NoError(t, err)
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	require.NoError(t, err)
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return when
	}
	for name, c := range map[string]struct {
		on         bool
		start, end int32
		zone       *time.Location
		now        string
		quiet      bool
	}{
		"off":                        {false, 0, 0, nil, "2026-07-01T12:00:00Z", false},
		"whole day":                  {true, 5, 5, nil, "2026-07-01T12:00:00Z", true},
		"before":                     {true, 9, 17, nil, "2026-07-01T08:59:59Z", false},
		"first moment":               {true, 9, 17, nil, "2026-07-01T09:00:00Z", true},
		"last moment":                {true, 9, 17, nil, "2026-07-01T16:59:59Z", true},
		"after":                      {true, 9, 17, nil, "2026-07-01T17:00:00Z", false},
		"over midnight, evening":     {true, 22, 7, nil, "2026-07-01T22:00:00Z", true},
		"over midnight, morning":     {true, 22, 7, nil, "2026-07-01T06:59:59Z", true},
		"over midnight, end":         {true, 22, 7, nil, "2026-07-01T07:00:00Z", false},
		"over midnight, before":      {true, 22, 7, nil, "2026-07-01T21:59:59Z", false},
		"another zone, summer":       {true, 22, 7, paris, "2026-07-01T20:00:00Z", true},
		"another zone, summer, not":  {true, 22, 7, paris, "2026-07-01T19:59:59Z", false},
		"another zone, winter":       {true, 22, 7, paris, "2026-01-01T21:00:00Z", true},
		"another zone, winter, not":  {true, 22, 7, paris, "2026-01-01T20:00:00Z", false},
		"zone of half hours":         {true, 9, 10, kolkata, "2026-07-01T03:30:00Z", true},
		"zone of half hours, before": {true, 9, 10, kolkata, "2026-07-01T03:29:59Z", false},
	} {
		user := &accountv1.User{NotificationNoDisturbing: &c.on, NotificationNoDisturbingStart: &c.start, NotificationNoDisturbingEnd: &c.end}
		require.Equal(t, c.quiet, quiet(user, at(c.now).In(Config{PushZone: c.zone}.zone())), name)
	}
}
