package messaging

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

func TestUnwanted(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	later, earlier := noon.Add(time.Minute).UnixMilli(), noon.Add(-time.Minute).UnixMilli()
	type n = accountv1.Notification
	for name, c := range map[string]struct {
		own, lena *n
		ext       string
		want      bool
	}{
		"nothing set":                {own: &n{Type: "ALL"}, lena: &n{Type: "DEFAULT"}},
		"none at all":                {own: &n{Type: "NONE"}, lena: &n{Type: "DEFAULT"}, want: true},
		"none but this":              {own: &n{Type: "NONE"}, lena: &n{Type: "ALL"}},
		"not this":                   {own: &n{Type: "ALL"}, lena: &n{Type: "NONE"}, want: true},
		"only where spoken to":       {own: &n{Type: "AT"}, lena: &n{Type: "DEFAULT"}, want: true},
		"spoken to":                  {own: &n{Type: "AT"}, lena: &n{Type: "DEFAULT"}, ext: `{"em_at_list":["x","Omar"]}`},
		"others are spoken to":       {own: &n{Type: "ALL"}, lena: &n{Type: "AT"}, ext: `{"em_at_list":["x"]}`, want: true},
		"everybody is spoken to":     {own: &n{Type: "ALL"}, lena: &n{Type: "AT"}, ext: `{"em_at_list":"ALL"}`},
		"for a while":                {own: &n{Type: "ALL", IgnoreUntil: later}, lena: &n{Type: "DEFAULT"}, want: true},
		"the while is over":          {own: &n{Type: "ALL", IgnoreUntil: earlier}, lena: &n{Type: "DEFAULT", IgnoreUntil: earlier}},
		"this for a while":           {own: &n{Type: "ALL"}, lena: &n{Type: "ALL", IgnoreUntil: later}, want: true},
		"an interval":                {own: &n{Type: "ALL", IgnoreInterval: "11:59-12:01"}, lena: &n{Type: "DEFAULT"}, want: true},
		"its first minute":           {own: &n{Type: "ALL", IgnoreInterval: "12:00-12:01"}, lena: &n{Type: "DEFAULT"}, want: true},
		"its end":                    {own: &n{Type: "ALL", IgnoreInterval: "11:00-12:00"}, lena: &n{Type: "DEFAULT"}},
		"over midnight":              {own: &n{Type: "ALL", IgnoreInterval: "21:30-8:0"}, lena: &n{Type: "DEFAULT"}},
		"over midnight, at noon too": {own: &n{Type: "ALL", IgnoreInterval: "21:30-12:01"}, lena: &n{Type: "DEFAULT"}, want: true},
		"the whole day":              {own: &n{Type: "ALL"}, lena: &n{Type: "DEFAULT", IgnoreInterval: "0:0-00:00"}, want: true},
	} {
		wants := &accountv1.LookupPushResponse{Own: c.own, Users: []*accountv1.TargetNotification{
			{Target: "other", Notification: &n{Type: "NONE"}}, {Target: "lena", Notification: c.lena},
		}}
		require.Equal(t, c.want, unwanted(wants, "omar", "lena", gjson.Parse(c.ext), noon), name)
	}
	require.False(t, unwanted(nil, "omar", "lena", gjson.Result{}, noon))
}
