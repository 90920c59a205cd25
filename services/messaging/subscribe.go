package messaging

import (
	"context"
	"reflect"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/entrytype"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/messaging/partition"
)

// subscribeBuffer bounds what is read ahead of a subscriber, in records and
// partition.
const subscribeBuffer = 64

// Subscribe implements messagingv1.MessagingServiceServer. It streams an app's
// messages from the log.
func (s *Service) Subscribe(req *messagingv1.SubscribeRequest, stream grpc.ServerStreamingServer[messagingv1.SubscribeResponse]) error {
	app, ok := s.deps.Apps.App(req.GetOrg(), req.GetApp())
	if !ok {
		return errs.AppNotFound(req.GetOrg(), req.GetApp())
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	parts, err := s.subscribeFrom(ctx, req.GetCursor())
	if err != nil {
		return err
	}
	readers, epochs := make([]*natsx.StreamReader, len(parts)), make([]int64, len(parts))
	for p := range readers {
		r, err := s.log.Read(ctx, p, ident.AppKey(app.Key), parts[p].offset+1, subscribeBuffer)
		if err != nil {
			return err
		}
		defer r.Stop()
		readers[p], epochs[p] = r, parts[p].epoch
	}
	if err := stream.Send(&messagingv1.SubscribeResponse{Cursor: encodeCursor(parts)}); err != nil {
		return err
	}
	var watched sync.WaitGroup
	watched.Go(func() { s.log.EndWithEpochs(ctx, epochs, cancel) })
	defer watched.Wait()
	defer cancel(nil)
	st := &subscriber{app: app, user: ident.FoldUser(req.GetUser()), parts: parts, send: stream.Send}
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

// subscribeFrom returns from where to begin and refuses what the log no longer
// holds.
func (s *Service) subscribeFrom(ctx context.Context, cursor string) ([]progress, error) {
	parts := make([]progress, s.cfg.Partitions)
	if cursor != "" {
		var err error
		if parts, err = decodeCursor(cursor, s.cfg.Partitions); err != nil {
			return nil, err
		}
	}
	for p := range parts {
		log, err := s.log.Extent(ctx, p)
		if err != nil {
			return nil, err
		}
		at := &parts[p]
		switch {
		case cursor == "":
			*at = progress{offset: log.Last, epoch: log.Epoch}
		case at.epoch != log.Epoch:
			*at = restart(*at, log.Epoch, log.Began, log.First)
		case at.offset > log.Last:
			return nil, errs.Invalid("cursor is ahead of the log")
		case log.First > at.offset+1 && log.Last > at.offset:
			return nil, errs.New(codes.OutOfRange, errs.ReasonIllegalArgument, "cursor is older than the log")
		}
	}
	return parts, nil
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
	app   *catalog.App
	user  ident.UserID
	parts []progress // by partition
	send  func(*messagingv1.SubscribeResponse) error
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
	at := &st.parts[p]
	// Targets given before, when the cursor points into this record.
	skip := uint64(0)
	if at.targets > 0 && meta.Sequence.Stream == at.offset+1 {
		skip = at.targets
	}
	at.offset, at.targets = meta.Sequence.Stream-1, skip
	targets := r.GetTargets()
	for i := int(skip); i < len(targets); i++ {
		t := targets[i]
		if at.targets++; i == len(targets)-1 {
			at.offset, at.targets = meta.Sequence.Stream, 0
		}
		if !entrytype.IsListed(r.GetType()) {
			continue
		}
		if st.user != "" && string(st.user) != r.GetFrom() && string(st.user) != t.GetTo() {
			continue
		}
		msg, err := publicMessage(ident.AppKey(st.app.Key), &busv1.Delivery{
			Id: t.GetId(), Kind: r.GetKind(), Type: r.GetType(), Conversation: string(partition.ConversationOf(&r, t.GetTo())),
			From: r.GetFrom(), To: t.GetTo(), Timestamp: r.GetTimestamp(), Body: r.GetBody(),
		})
		if err != nil {
			return err
		}
		if err := st.send(&messagingv1.SubscribeResponse{Message: msg, Cursor: encodeCursor(st.parts)}); err != nil {
			return err
		}
	}
	return nil
}
