//go:build faults

package faults

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/test/harness"
)

var (
	seed   = flag.Uint64("seed", 1, "decides on all pauses and choices of the load")
	period = flag.Duration("traffic", 4*time.Second, "how long there is traffic before each fault, and after it")
	update = flag.Bool("update", false, "write what was measured to results.json, from which the table of docs/reliability.md is made")
)

func TestMain(m *testing.M) {
	harness.RunChild()
	testkit.Main(m)
}

// goesOnWithin is how long it may take from the end of a fault until a message
// is acknowledged, and until one is shown.
const goesOnWithin = 1500 * time.Millisecond

// scenario is a fault and what may follow from it.
type scenario struct {
	name string
	// what is the row's text in the documentation.
	what string
	// single and cluster are the ways to run: one of them is set.
	single  func(t *testing.T, s *single)
	cluster func(t *testing.T, c *cluster)
	// gateways and messaging are how many processes a cluster has; 1 each if 0.
	gateways, messaging int
	// disk is the size in MiB of the file system that a single node is on; 0 is
	// the machine's own.
	disk int

	// goesOn replaces goesOnWithin.
	goesOn time.Duration
	// lasts is how long the fault does: neither acknowledgements nor showings may
	// stand still for longer than that and goesOn. 0 bounds neither.
	lasts time.Duration
	// gap replaces that bound for acknowledgements; answer bounds the slowest
	// answer, 0 does not.
	gap, answer time.Duration
	// loses says that the fault takes acknowledged messages away that only the
	// log held. Those that a running service knows of have to be counted; of
	// gone nobody can know.
	loses, gone bool
	// unready wants the ready state to have been 503 during the fault.
	unready bool
}

// TestFaults runs each scenario as a test of its own name, one after the other:
// go test -tags faults ./test/faults -run TestFaults/disk-full -seed 7.
func TestFaults(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			began := time.Now()
			var r Result
			if s.single != nil {
				r = runSingle(t, s)
			} else {
				r = runCluster(t, s)
			}
			r.Name, r.What, r.Seed = s.name, s.what, *seed
			r.Broken = s.judge(r)
			report(t, r, time.Since(began))
			for _, b := range r.Broken {
				t.Error(b)
			}
		})
	}
}

// judge lists the promises that a result breaks.
func (s *scenario) judge(r Result) []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	count := func(n int, what string) {
		if n > 0 {
			bad("%d %s", n, what)
		}
	}
	count(r.Lost, "acknowledged messages were not shown")
	switch {
	case s.gone:
	case s.loses:
		count(r.Unarchived-r.Counted, "acknowledged messages are gone with the log and not counted")
	default:
		count(r.Unarchived, "acknowledged messages are not in the archive")
	}
	count(r.UnarchivedAfter, "messages acknowledged after the fault are not in the archive")
	count(r.Twice, "messages were shown twice")
	count(r.Late, "messages were shown after later ones")
	count(r.Doubled, "messages are in the archive twice")
	count(r.Holes, "places of conversations are not dense")
	within := func(ms int64, limit time.Duration, what string) {
		switch {
		case limit == 0:
		case ms < 0:
			bad("%s: never", what)
		case ms > limit.Milliseconds():
			bad("%s: %d ms, at most %d ms", what, ms, limit.Milliseconds())
		}
	}
	goesOn := cmp.Or(s.goesOn, goesOnWithin)
	within(r.SendsAgain, goesOn, "until a message is acknowledged after the fault")
	within(r.ShownAgain, goesOn, "until a message is shown after the fault")
	stands := time.Duration(0)
	if s.lasts > 0 {
		stands = s.lasts + goesOn
	}
	within(r.LongestGap, cmp.Or(s.gap, stands), "longest time without an acknowledgement")
	within(r.SlowestShow, stands, "longest time from an acknowledgement to the showing on a connected device")
	within(r.SlowestCall, s.answer, "slowest answer")
	if s.unready && !r.Unready {
		bad("the ready state did not tell: %s", r.Ready)
	}
	return out
}

func report(t *testing.T, r Result, took time.Duration) {
	t.Helper()
	t.Logf("%s in %s: %d acknowledged, %d refused, %d lost, %d not archived, %d twice, %d repeats, %d late, %d doubled, %d holes; %d logins; longest gap %d ms, slowest answer %d ms, slowest showing %d ms, sends again after %d ms, shown again after %d ms; ready: %s; %s",
		r.Name, took.Round(time.Second), r.Acked, r.Refused, r.Lost, r.Unarchived, r.Twice, r.Repeats, r.Late, r.Doubled, r.Holes,
		r.Logins, r.LongestGap, r.SlowestCall, r.SlowestShow, r.SendsAgain, r.ShownAgain, r.Ready, r.Note)
	for why, n := range r.Refusals {
		t.Logf("refused %d times: %s", n, why)
	}
	for _, e := range r.Examples {
		t.Log(e)
	}
	if *update {
		require.NoError(t, keep(r))
	}
}

// keep puts a result in the place of its last one.
func keep(r Result) error {
	all, err := Results("results.json")
	if err != nil {
		return err
	}
	byName := map[string]Result{r.Name: r}
	for _, old := range all {
		if old.Name != r.Name {
			byName[old.Name] = old
		}
	}
	var ordered []Result
	for _, s := range scenarios {
		if x, ok := byName[s.name]; ok {
			ordered = append(ordered, x)
		}
	}
	raw, err := json.MarshalIndent(ordered, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile("results.json", append(raw, '\n'), 0o644) // part of the repository
}
