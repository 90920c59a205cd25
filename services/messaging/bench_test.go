package messaging_test

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cpu gives the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSend measures a send to one user until it is committed; cpu-µs/op
// covers sequencing and archive, too.
func BenchmarkSend(b *testing.B) {
	r := newRig(b, 0)
	var n atomic.Int64
	before := cpu()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			_, err := r.send.SendToUsers(b.Context(), txt("lena", "hello, this is a message", fmt.Sprintf("u%d", i%1000)))
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	r.stop()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	r.start()
}

// BenchmarkFanout measures one send to 500 users with nobody listening.
func BenchmarkFanout(b *testing.B) {
	r := newRig(b, 0)
	var to []string
	for i := range 500 {
		to = append(to, fmt.Sprintf("u%d", i))
	}
	before := cpu()
	b.ResetTimer()
	for range b.N {
		_, err := r.send.SendToUsers(b.Context(), txt("lena", "hello, this is a message", to...))
		require.NoError(b, err)
	}
	b.StopTimer()
	r.stop()
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N)/500, "cpu-µs/delivery")
	r.start()
}
