package messaging_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/natsx"
)

func TestPacedDeliveriesWaitAndOthersDoNot(t *testing.T) {
	t.Parallel()
	r := newRig(t, 200)
	var to []string
	var chans []chan *natsx.Msg
	for i := range 100 {
		to = append(to, fmt.Sprintf("p%d", i))
		chans = append(chans, r.listen("acme#shop", to[i]))
	}
	other := r.listen("acme#other", "omar")
	began := time.Now()
	for i := range 6 {
		_, err := r.send.SendToUsers(rest(t.Context()), txt("lena", strconv.Itoa(i), to...))
		require.NoError(t, err)
	}
	quick := txt("lena", "quick", "omar")
	quick.App = "other"
	_, err := r.send.SendToUsers(rest(t.Context()), quick)
	require.NoError(t, err)
	require.Equal(t, "omar", next(t, other).GetTo())
	// Any one of them may have all of its own by now: partitions share the
	// first burst as they come.
	arrived := 0
	for _, ch := range chans {
		arrived += len(ch)
	}
	require.Less(t, arrived, 600, "the other app's message came while this one's were waiting")
	for _, ch := range chans {
		for seq := range 6 {
			require.Equal(t, int64(seq+1), next(t, ch).GetSeq())
		}
	}
	// 600 deliveries, 200 at once and 200 a second.
	require.GreaterOrEqual(t, time.Since(began), 1900*time.Millisecond)
	require.Eventually(t, func() bool {
		r.pacer.mu.Lock()
		defer r.pacer.mu.Unlock()
		n, reported := r.pacer.last["shop"]
		return reported && n == 0
	}, 10*time.Second, 20*time.Millisecond, "the backlog was reported and is gone")
}
