package session_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/gateway/session"
)

// sink is a device on a bare socket: it logs in and afterwards only counts the
// bytes it reads.
type sink struct {
	conn  net.Conn
	bytes atomic.Int64
}

func clientFrame(payload []byte) []byte {
	head := []byte{0x82}
	if len(payload) < 126 {
		head = append(head, 0x80|byte(len(payload)))
	} else {
		head = append(head, 0x80|126, byte(len(payload)>>8), byte(len(payload)))
	}
	head = append(head, 0, 0, 0, 0) // the mask that changes nothing
	return append(head, payload...)
}

// openSink connects and logs in over an address.
func openSink(tb testing.TB, addr, user string) *sink {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(tb, err)
	_, err = io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	require.NoError(tb, err)
	buf := make([]byte, 4096)
	n := 0
	for !strings.Contains(string(buf[:n]), "\r\n\r\n") {
		k, err := conn.Read(buf[n:])
		require.NoError(tb, err)
		n += k
	}
	payload, err := proto.Marshal(&msyncv1.Provision{Resource: proto.String("webim_web_1700000000000"), DeviceUuid: proto.String("web_1700000000000"), SessionId: proto.String("1700000000000:")})
	require.NoError(tb, err)
	frame, err := proto.Marshal(&msyncv1.MSync{
		Command: msyncv1.MSync_PROVISION.Enum(), Payload: payload, Auth: proto.String("$t$token-" + user),
		Guid: &msyncv1.JID{AppKey: proto.String(appKey), Name: proto.String(user)},
	})
	require.NoError(tb, err)
	_, err = conn.Write(clientFrame(frame))
	require.NoError(tb, err)
	_, err = conn.Read(buf)
	require.NoError(tb, err)
	unread, err := proto.Marshal(&msyncv1.MSync{Command: msyncv1.MSync_UNREAD.Enum()})
	require.NoError(tb, err)
	_, err = conn.Write(clientFrame(unread))
	require.NoError(tb, err)
	_, err = conn.Read(buf)
	require.NoError(tb, err)
	return &sink{conn: conn}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const receivers = 1000

// readAll keeps the sockets empty with few goroutines' worth of work: each read
// takes what has come together.
func readAll(sinks []*sink) func() {
	var readers sync.WaitGroup
	for _, s := range sinks {
		readers.Go(func() {
			buf := make([]byte, 8192)
			for {
				n, err := s.conn.Read(buf)
				s.bytes.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	return func() {
		for _, s := range sinks {
			_ = s.conn.Close()
		}
		readers.Wait()
	}
}

func total(sinks []*sink) int64 {
	var n int64
	for _, s := range sinks {
		n += s.bytes.Load()
	}
	return n
}

// BenchmarkDelivery1000 is one message to each of 1,000 connected devices, from
// NATS to the sockets; it reports the process's CPU time for each delivery, the
// receiving ends included.
func BenchmarkDelivery1000(b *testing.B) {
	r := start(b, func(c *session.Config) {
		c.SweepInterval, c.FlushInterval = time.Second, 2*time.Second
		c.MaxQueues, c.CleanQueues = 1<<20, 1<<20 // the sinks confirm nothing
	})
	addr := strings.TrimSuffix(strings.TrimPrefix(r.url, "ws://"), "/ws")
	sinks := make([]*sink, receivers)
	for i := range sinks {
		sinks[i] = openSink(b, addr, "user"+strconv.Itoa(i))
	}
	stop := readAll(sinks)
	defer stop()
	body := textBody(b, "admin", "a message of an ordinary length, about sixty bytes of text")
	round := func(n int) {
		for i := range sinks {
			user := "user" + strconv.Itoa(i)
			from := "s" + strconv.Itoa(n) // every round a conversation of its own
			d := &busv1.Delivery{
				Id: 1_000_000_000_000_000_000 + int64(n), Kind: busv1.Kind_KIND_USER, Seq: 1, LogPlace: 1, From: from, To: user,
				Conversation: string(ident.UserConversation(ident.UserID(from), ident.UserID(user))), Timestamp: 1_700_000_000_000, Body: body,
			}
			push, err := proto.Marshal(&busv1.Push{What: &busv1.Push_Delivery{Delivery: d}})
			require.NoError(b, err)
			require.NoError(b, r.nats.Publish(bus.UserSubject(appKey, user), push))
		}
	}
	before := total(sinks)
	round(1_000_000)
	wait(sinks, before+receivers*150) // more than half of what each gets
	settle(sinks)
	size := (total(sinks) - before) / receivers
	began, bytes := cpu(), total(sinks)
	b.ResetTimer()
	for n := range b.N {
		round(n + 1_000_001)
		wait(sinks, bytes+int64(n+1)*size*receivers)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N*receivers), "cpu-ns/delivery")
	b.ReportMetric(float64(size), "bytes/delivery")
}

// BenchmarkGroupDelivery1000 is one message to a group with 1,000 connected
// devices, on one subject.
func BenchmarkGroupDelivery1000(b *testing.B) {
	r := start(b, func(c *session.Config) {
		c.SweepInterval, c.FlushInterval = time.Second, 2*time.Second
		c.MaxQueues, c.CleanQueues = 1<<20, 1<<20 // the sinks confirm nothing
	})
	addr := strings.TrimSuffix(strings.TrimPrefix(r.url, "ws://"), "/ws")
	sinks := make([]*sink, receivers)
	for i := range sinks {
		user := "user" + strconv.Itoa(i)
		sinks[i] = openSink(b, addr, user)
		c, ok := r.server.Find(ident.User{App: appKey, ID: ident.UserID(user)}, "webim_web_1700000000000")
		require.True(b, ok)
		require.NoError(b, c.Subscribe(group, "77"))
	}
	require.NoError(b, r.bus.Flush(b.Context()))
	stop := readAll(sinks)
	defer stop()
	body := textBody(b, "admin", "a message of an ordinary length, about sixty bytes of text")
	round := func(n int) {
		// Every round a conversation of its own: the sinks confirm nothing.
		d := &busv1.Delivery{
			Id: 1_000_000_000_000_000_000 + int64(n), Kind: group, Seq: 1, LogPlace: 1, From: "admin", To: "77",
			Conversation: strconv.Itoa(n), Timestamp: 1_700_000_000_000, Body: body,
		}
		push, err := proto.Marshal(&busv1.Push{What: &busv1.Push_Delivery{Delivery: d}})
		require.NoError(b, err)
		require.NoError(b, r.nats.Publish(bus.DeliverySubject(appKey, group, "77"), push))
	}
	before := total(sinks)
	round(1_000_000)
	wait(sinks, before+receivers*150) // more than half of what each gets
	settle(sinks)
	size := (total(sinks) - before) / receivers
	began, bytes := cpu(), total(sinks)
	b.ResetTimer()
	for n := range b.N {
		round(n + 1_000_001)
		wait(sinks, bytes+int64(n+1)*size*receivers)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N*receivers), "cpu-ns/delivery")
	b.ReportMetric(float64(size), "bytes/delivery")
}

// BenchmarkBareWrites1000 writes frames of the same size to the same number of
// sockets in a loop.
func BenchmarkBareWrites1000(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	sinks := make([]*sink, receivers)
	ends := make([]net.Conn, receivers)
	for i := range sinks {
		c, err := net.Dial("tcp", l.Addr().String())
		require.NoError(b, err)
		sinks[i] = &sink{conn: c}
		ends[i], err = l.Accept()
		require.NoError(b, err)
	}
	stop := readAll(sinks)
	defer stop()
	frame := make([]byte, benchFrame)
	began := cpu()
	b.ResetTimer()
	for n := range b.N {
		for _, c := range ends {
			_, err := c.Write(frame)
			require.NoError(b, err)
		}
		wait(sinks, int64(n+1)*receivers*benchFrame)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N*receivers), "cpu-ns/delivery")
	for _, c := range ends {
		_ = c.Close()
	}
	_ = l.Close()
}

// benchFrame is about what a delivery of BenchmarkDelivery1000 takes.
const benchFrame = 250

// wait waits until the sinks have read so many bytes in all.
func wait(sinks []*sink, bytes int64) {
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for total(sinks) < bytes {
		<-tick.C
	}
}

// settle waits until nothing comes any more.
func settle(sinks []*sink) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for last := int64(-1); last != total(sinks); {
		last = total(sinks)
		<-tick.C
	}
}

// TestMemoryOfIdleConnections measures 5,000 connections that logged in and fell
// silent. It runs when CHAPPE_TEST_MEMORY is set, in a process of its own.
func TestMemoryOfIdleConnections(t *testing.T) {
	if os.Getenv("CHAPPE_TEST_MEMORY") == "" {
		t.Skip("set CHAPPE_TEST_MEMORY to measure")
	}
	const n = 5000
	r := start(t, func(c *session.Config) { c.SweepInterval, c.FlushInterval = time.Second, 2*time.Second })
	addr := strings.TrimSuffix(strings.TrimPrefix(r.url, "ws://"), "/ws")
	one := openSink(t, addr, "first")
	defer func() { _ = one.conn.Close() }()
	inUse := func() (heap, stack uint64) {
		for range 4 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse
	}
	heap0, stack0 := inUse()
	files := make([]*os.File, n)
	for i := range files {
		s := openSink(t, addr, "user"+strconv.Itoa(i))
		f, err := s.conn.(*net.TCPConn).File() // leaves our end without runtime state
		require.NoError(t, err)
		_ = s.conn.Close()
		files[i] = f
	}
	heap1, stack1 := inUse()
	per := float64(heap1-heap0+stack1-stack0) / n
	t.Logf("%d connections: %.0f bytes each, heap %.0f, stacks %.0f (our end's file handles included)",
		n, per, float64(heap1-heap0)/n, float64(stack1-stack0)/n)
	require.Less(t, per, 16.0*1024)
	for _, f := range files {
		_ = f.Close()
	}
	require.Eventually(t, func() bool { return r.server.Connections() <= 1 }, 20*time.Second, 50*time.Millisecond)
}
