package partition

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// LogWindow is how long the log recognizes a repetition.
const LogWindow = 2 * time.Minute

// LogConfig says how the log is kept.
type LogConfig struct {
	Partitions int
	// Age is how long records are kept.
	Age time.Duration
	// Bytes bounds all partitions together; 0 for no bound.
	Bytes int64
	// Replicas of the streams.
	Replicas int
}

// Log is the log of accepted sends, one stream for each partition.
type Log struct {
	cfg   LogConfig
	nats  *natsx.Conn
	gates *gates
	ids   *idgen.Generator
	// commitLocks are by partition; see Commit.
	commitLocks []sync.Mutex
}

// NewLog makes a log whose gates are shut. Message IDs are made under node 0
// until the Owner has claimed a number.
func NewLog(cfg LogConfig, nats *natsx.Conn, now func() time.Time) (*Log, error) {
	ids, err := idgen.New(0, now)
	if err != nil {
		return nil, err
	}
	return &Log{
		cfg: cfg, nats: nats, gates: newGates(cfg.Partitions, nats.Times), ids: ids, commitLocks: make([]sync.Mutex, cfg.Partitions),
	}, nil
}

// Start makes the streams.
func (l *Log) Start(ctx context.Context) error {
	for p := range l.cfg.Partitions {
		if err := l.ensureStreams(ctx, p); err != nil {
			return err
		}
	}
	l.nats.OnChange(l.gates.closeAll)
	return nil
}

func (l *Log) ensureStreams(ctx context.Context, p int) error {
	if err := l.nats.EnsureStream(ctx, natsx.StreamSpec{
		Name: bus.LogStream(p), Subjects: []string{bus.LogFilter(p)}, MaxAge: l.cfg.Age,
		MaxBytes:        l.cfg.Bytes / int64(l.cfg.Partitions),
		DuplicateWindow: LogWindow, Replicas: l.cfg.Replicas,
	}); err != nil {
		return err
	}
	return l.nats.EnsureStream(ctx, natsx.StreamSpec{
		Name: bus.SpillStream(p), Subjects: []string{bus.SpillSubject(p, "*")}, WorkQueue: true,
		DuplicateWindow: 2 * time.Minute, Replicas: l.cfg.Replicas,
	})
}

// Partition returns the partition of a conversation.
func (l *Log) Partition(app ident.AppKey, conversation ident.ConversationID) int {
	return bus.Partition(string(app), string(conversation), l.cfg.Partitions)
}

// End asks a partition's stream for its last place, as bus.LogPlace makes it.
func (l *Log) End(ctx context.Context, p int) (uint64, error) {
	state, err := l.nats.StreamState(ctx, bus.LogStream(p))
	if err != nil {
		return 0, err
	}
	epoch, err := epochOf(p, state)
	return bus.LogPlace(epoch, state.Last), err
}

// Archived notes how far a partition is archived.
func (l *Log) Archived(p int, epoch int64, offset uint64) { l.gates.archived(p, epoch, offset) }

// AwaitOpen waits until all gates are open, or for so long, and reports whether
// they are.
func (l *Log) AwaitOpen(ctx context.Context, longest time.Duration) bool {
	return l.gates.awaitOpen(ctx, longest)
}

// Health returns how the log is, as this process knows it.
func (l *Log) Health() Health { return l.gates.health() }

// Refuse has sends refused for a reason that lies outside of the log, until it
// is called with none.
func (l *Log) Refuse(why string) {
	if why == "" {
		l.gates.refused.Store(nil)
		return
	}
	l.gates.refused.Store(&why)
}

// Read reads an app's records of a partition from an offset on, buffer of them
// ahead.
func (l *Log) Read(ctx context.Context, p int, app ident.AppKey, from uint64, buffer int) (*natsx.StreamReader, error) {
	return l.nats.ReadStream(ctx, bus.LogStream(p), from, buffer, bus.LogAppFilter(p, string(app)))
}

// Extent is what a partition's stream holds.
type Extent struct {
	// First and Last are the first offset that is still held and the last one
	// given out.
	First, Last uint64
	Epoch       int64
	// Began is the offset before the first record of the epoch that had not been
	// archived when it began.
	Began uint64
}

// Extent returns what a partition's stream holds; an error while its epoch is
// not known.
func (l *Log) Extent(ctx context.Context, p int) (Extent, error) {
	log, err := l.nats.StreamState(ctx, bus.LogStream(p))
	if err != nil {
		return Extent{}, err
	}
	e := Extent{First: log.First, Last: log.Last}
	e.Epoch, e.Began, err = l.gates.epochOf(p)
	return e, err
}

// epochLook is how often EndWithEpochs looks whether epochs have ended.
const epochLook = 250 * time.Millisecond

// EndWithEpochs calls end when the log of a partition is in another epoch than
// given, unless ctx ends first.
func (l *Log) EndWithEpochs(ctx context.Context, epochs []int64, end context.CancelCauseFunc) {
	t := time.NewTicker(epochLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for p := range epochs {
			if epoch, _, err := l.gates.epochOf(p); err == nil && epoch != epochs[p] {
				end(errs.Unavailable("message log", errors.New("it began anew; go on from the last cursor")))
				return
			}
		}
	}
}

// HoldsEvent reports whether the log holds the record of a draft with one
// target and an event. It reads all of the conversation that the log has.
func (l *Log) HoldsEvent(ctx context.Context, d *Draft) (bool, error) {
	conversation := ConversationOf(d.Record, d.Targets[0].To)
	p := l.Partition(d.App, conversation)
	stream, subject := bus.LogStream(p), bus.LogSubject(p, d.Record.GetKind(), string(d.App), string(conversation))
	held, err := l.nats.StreamSubjects(ctx, stream, subject)
	if err != nil || len(held) == 0 {
		return false, err
	}
	const ahead = 64
	reader, err := l.nats.ReadStream(ctx, stream, 1, ahead, subject)
	if err != nil {
		return false, err
	}
	defer reader.Stop()
	var batch []natsx.StreamMsg
	for {
		if batch, err = reader.Next(ctx, batch[:0], ahead); err != nil {
			return false, err
		}
		for _, m := range batch {
			var r busv1.LogRecord
			if proto.Unmarshal(m.Data(), &r) == nil && r.GetEvent() == d.Record.GetEvent() {
				return true, nil
			}
			meta, err := m.Metadata()
			if err != nil {
				return false, errs.Internal(fmt.Errorf("message of the log has no offset: %w", err))
			}
			if meta.NumPending == 0 {
				return false, nil
			}
		}
	}
}

// epochKey is where a stream's metadata holds its epoch. A copy of the files
// that was made before an epoch began says so by it.
const epochKey = "chappe_epoch"

// epochOf returns the epoch that a partition's log says it is of.
func epochOf(p int, log natsx.StreamState) (int64, error) {
	text := log.Metadata[epochKey]
	if text == "" {
		return 0, nil
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stream %s: its metadata says %s=%q: %w", bus.LogStream(p), epochKey, text, err)
	}
	return epoch, nil
}
