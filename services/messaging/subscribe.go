package messaging

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"reflect"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// place is how far a subscriber is in one partition's stream: all records up
// to and including seq, and so many targets of the one after.
type place struct {
	seq     uint64
	targets uint64
	// epoch of the log that seq is of.
	epoch int64
}

// Versions of cursors. One without epochs was made in the first.
const (
	cursorWithoutEpochs = 1
	cursorVersion       = 2
)

// encodeCursor writes the places in all partitions as opaque text.
func encodeCursor(places []place) string {
	b := []byte{cursorVersion}
	b = binary.AppendUvarint(b, uint64(len(places)))
	for _, p := range places {
		b = binary.AppendUvarint(b, p.seq)
		b = binary.AppendUvarint(b, p.targets)
		b = binary.AppendUvarint(b, uint64(p.epoch)) //nolint:gosec // never negative
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeCursor(text string, partitions int) ([]place, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 || (b[0] != cursorVersion && b[0] != cursorWithoutEpochs) {
		return nil, errs.Invalid("cursor is not one of this service")
	}
	epochs := b[0] == cursorVersion
	b = b[1:]
	next := func() (uint64, bool) {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, false
		}
		b = b[n:]
		return v, true
	}
	if n, ok := next(); !ok || n != uint64(partitions) { //nolint:gosec // a count
		return nil, errs.Invalid("cursor is not one of this cluster")
	}
	out := make([]place, partitions)
	for i := range out {
		var ok1, ok2 bool
		out[i].seq, ok1 = next()
		out[i].targets, ok2 = next()
		var epoch uint64
		ok3 := true
		if epochs {
			epoch, ok3 = next()
		}
		if !ok1 || !ok2 || !ok3 {
			return nil, errs.Invalid("cursor is cut short")
		}
		out[i].epoch = int64(epoch) //nolint:gosec // only compared
	}
	if len(b) != 0 {
		return nil, errs.Invalid("cursor is not one of this service")
	}
	return out, nil
}

// subscribeBuffer bounds what is read ahead of a subscriber, in records and
// partition.
const subscribeBuffer = 64

// subscribe streams an app's messages from the log.
func (s *Service) subscribe(ctx context.Context, req *messagingv1.SubscribeRequest, send func(*messagingv1.SubscribeResponse) error) error {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	places, err := s.subscribeFrom(ctx, req.GetCursor())
	if err != nil {
		return err
	}
	readers := make([]*natsx.StreamReader, s.cfg.Partitions)
	for p := range readers {
		r, err := s.deps.NATS.ReadStream(ctx, bus.LogStream(p), places[p].seq+1, subscribeBuffer, bus.LogAppFilter(p, app.Key))
		if err != nil {
			return err
		}
		defer r.Stop()
		readers[p] = r
	}
	if err := send(&messagingv1.SubscribeResponse{Cursor: encodeCursor(places)}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watched sync.WaitGroup
	watched.Go(func() { s.gates.endWithEpochs(ctx, slices.Clone(places), cancel) })
	defer watched.Wait()
	defer cancel(nil)
	st := &subscriber{app: app, user: names.FoldUser(req.GetUser()), places: places, send: send}
	for {
		p, m, err := receiveAny(ctx, readers)
		if err != nil {
			return err
		}
		if err := st.take(p, m); err != nil {
			return err
		}
	}
}

// subscribeFrom gives the places to begin at and refuses those the log no
// longer holds.
func (s *Service) subscribeFrom(ctx context.Context, cursor string) ([]place, error) {
	places := make([]place, s.cfg.Partitions)
	if cursor != "" {
		var err error
		if places, err = decodeCursor(cursor, s.cfg.Partitions); err != nil {
			return nil, err
		}
	}
	for p := range places {
		log, err := s.deps.NATS.StreamState(ctx, bus.LogStream(p))
		if err != nil {
			return nil, err
		}
		first, last := log.First, log.Last
		epoch, began, err := s.gates.epochOf(p)
		if err != nil {
			return nil, err
		}
		if cursor == "" {
			places[p] = place{seq: last, epoch: epoch}
			continue
		}
		if places[p].epoch != epoch {
			places[p] = restart(places[p], epoch, began, first)
			continue
		}
		if places[p].seq > last {
			return nil, errs.Invalid("cursor is ahead of the log")
		}
		if first > places[p].seq+1 && last > places[p].seq {
			return nil, errs.New(codes.OutOfRange, errs.ReasonIllegalArgument, "cursor is older than the log")
		}
	}
	return places, nil
}

// restart gives the place at which a subscriber of an older epoch goes on: where
// it was if the log still is what it was there, else where the log went other
// ways. What had been in the old log behind that, it does not get any more.
func restart(was place, epoch int64, began, first uint64) place {
	to := place{seq: began, epoch: epoch}
	if was.epoch < epoch-1 {
		to.seq = 0 // there were epochs in between: better twice than not at all
	}
	if was.seq < to.seq {
		to.seq, to.targets = was.seq, was.targets
	}
	if first > to.seq+1 {
		to.seq, to.targets = first-1, 0
	}
	return to
}

// receiveAny waits for a message of any reader.
func receiveAny(ctx context.Context, readers []*natsx.StreamReader) (int, natsx.StreamMsg, error) {
	cases := make([]reflect.SelectCase, 0, 2*len(readers)+1)
	for _, r := range readers {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(r.C())})
	}
	for _, r := range readers {
		cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(r.Closed())})
	}
	cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())})
	i, v, _ := reflect.Select(cases)
	switch {
	case i < len(readers):
		return i, v.Interface().(natsx.StreamMsg), nil
	case i == len(cases)-1:
		return 0, nil, context.Cause(ctx)
	default:
		return 0, nil, errs.Unavailable("message log", context.Canceled)
	}
}

// subscriber turns records into messages and keeps the cursor.
type subscriber struct {
	app    *catalog.App
	user   string
	places []place
	send   func(*messagingv1.SubscribeResponse) error
}

func (st *subscriber) take(p int, m natsx.StreamMsg) error {
	meta, err := m.Metadata()
	if err != nil {
		return errs.Internal(err)
	}
	var r busv1.LogRecord
	if err := proto.Unmarshal(m.Data(), &r); err != nil {
		return errs.Internal(err)
	}
	at := &st.places[p]
	// Targets given before, when the cursor points into this record.
	skip := uint64(0)
	if at.targets > 0 && meta.Sequence.Stream == at.seq+1 {
		skip = at.targets
	}
	at.seq, at.targets = meta.Sequence.Stream-1, skip
	targets := r.GetTargets()
	for i := int(skip); i < len(targets); i++ { //nolint:gosec // at most 600 targets
		t := targets[i]
		if at.targets++; i == len(targets)-1 {
			at.seq, at.targets = meta.Sequence.Stream, 0
		}
		if bus.IsEvent(r.GetType()) {
			continue
		}
		if st.user != "" && st.user != r.GetFrom() && st.user != t.GetTo() {
			continue
		}
		msg, err := publicMessage(st.app.Key, &busv1.Delivery{
			Id: t.GetId(), Kind: r.GetKind(), Type: r.GetType(), Conversation: conversationOf(&r, t.GetTo()),
			From: r.GetFrom(), To: t.GetTo(), Timestamp: r.GetTimestamp(), Body: r.GetBody(),
		})
		if err != nil {
			return err
		}
		if err := st.send(&messagingv1.SubscribeResponse{Message: msg, Cursor: encodeCursor(slices.Clone(st.places))}); err != nil {
			return err
		}
	}
	return nil
}
