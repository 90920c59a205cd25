package traffic

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestJudge gives the ledger one fault of each kind and wants that one counted,
// so that a load that finds nothing wrong has looked.
func TestJudge(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	show := func(ms, login int, ids ...string) []Shown {
		var out []Shown
		for _, id := range ids {
			out = append(out, Shown{At: at(ms), Login: login, ID: id, Text: "t" + id})
		}
		return out
	}
	sent := func(ids ...string) []Sent {
		var out []Sent
		for _, id := range ids {
			out = append(out, Sent{Conversation: "a~b", Recipient: "b", ID: id, Text: "t" + id})
		}
		return out
	}
	archive := func(ids ...string) map[string][]Archived {
		var out []Archived
		for i, id := range ids {
			out = append(out, Archived{Seq: int64(i + 1), ID: id, Text: "t" + id})
		}
		return map[string][]Archived{"a~b": out}
	}
	device := func(shown ...[]Shown) Device {
		d := Device{User: "b", Resource: "d"}
		for _, s := range shown {
			d.Shown = append(d.Shown, s...)
		}
		return d
	}
	for name, c := range map[string]struct {
		ledger Ledger
		want   Verdict
	}{
		"all well": {
			Ledger{Sent: sent("1", "2"), Archive: archive("1", "2"), Devices: []Device{device(show(1, 1, "1"), show(2, 1, "2"))}}, Verdict{},
		},
		"unacknowledged messages may be there": {
			Ledger{Sent: sent("2"), Archive: archive("1", "2"), Devices: []Device{device(show(1, 1, "1", "2"))}}, Verdict{},
		},
		"lost on one of two devices": {
			Ledger{Sent: sent("1", "2"), Archive: archive("1", "2"), Devices: []Device{device(show(1, 1, "1", "2")), device(show(1, 1, "2"))}},
			Verdict{Lost: 1},
		},
		"not archived": {
			Ledger{Sent: sent("1", "2"), Archive: archive("1"), Devices: []Device{device(show(1, 1, "1", "2"))}}, Verdict{Unarchived: 1},
		},
		"not archived after the fault": {
			Ledger{
				Sent:    []Sent{{Conversation: "a~b", Recipient: "b", ID: "1", Acked: at(10)}, {Conversation: "a~b", Recipient: "b", ID: "2", Acked: at(30)}},
				Archive: archive(), Devices: []Device{device()}, Over: at(20),
			},
			Verdict{Unarchived: 2, UnarchivedAfter: 1},
		},
		"late": {
			Ledger{Sent: sent("1", "2"), Archive: archive("1", "2"), Devices: []Device{device(show(1, 1, "2"), show(2, 2, "1"))}}, Verdict{Late: 1},
		},
		"late and twice": {
			Ledger{Sent: sent("1", "2"), Archive: archive("1", "2"), Devices: []Device{device(show(1, 1, "2"), show(2, 1, "1", "2"))}},
			Verdict{Late: 1, Twice: 1},
		},
		"again after a kill": {
			Ledger{Sent: sent("1"), Archive: archive("1"), Devices: []Device{device(show(1000, 1, "1"), show(2000, 2, "1"))}, Kills: []Span{kill(at(1100), at(1110))}},
			Verdict{Repeats: 1},
		},
		"again long after it was shown": {
			Ledger{Sent: sent("1"), Archive: archive("1"), Devices: []Device{device(show(1000, 1, "1"), show(3000, 2, "1"))}, Kills: []Span{kill(at(2000), at(2010))}},
			Verdict{Twice: 1},
		},
		"again before the kill": {
			Ledger{Sent: sent("1"), Archive: archive("1"), Devices: []Device{device(show(1000, 1, "1"), show(1010, 2, "1"))}, Kills: []Span{kill(at(1100), at(1110))}},
			Verdict{Twice: 1},
		},
		"again after the connection's end": {
			Ledger{Sent: sent("1"), Archive: archive("1"), Devices: []Device{{User: "b", Shown: append(show(1000, 1, "1"), show(2000, 2, "1")...), Ends: []Span{end(at(1050))}}}},
			Verdict{Repeats: 1},
		},
		"confirmed before the connection's end": {
			Ledger{Sent: sent("1"), Archive: archive("1"), Devices: []Device{{User: "b", Shown: append(show(1000, 1, "1"), show(2000, 2, "1")...), Ends: []Span{end(at(1200))}}}},
			Verdict{Twice: 1},
		},
		"doubled": {
			Ledger{Sent: sent("1"), Archive: map[string][]Archived{"a~b": {{1, "1", "t1"}, {2, "9", "t1"}}}, Devices: []Device{device(show(1, 1, "1", "9"))}},
			Verdict{Doubled: 1},
		},
		"hole": {
			Ledger{Sent: sent("1"), Archive: map[string][]Archived{"a~b": {{2, "1", "t1"}}}, Devices: []Device{device(show(1, 1, "1"))}}, Verdict{Holes: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := c.ledger.Judge()
			if !got.Clean() {
				require.NotEmpty(t, got.Examples)
			}
			got.Examples = nil
			require.Equal(t, c.want, got)
		})
	}
}
