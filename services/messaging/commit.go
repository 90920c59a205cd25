package messaging

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// draft is a checked send on its way into the log.
type draft struct {
	app string
	// record is what all targets share.
	record  *busv1.LogRecord
	targets []draftTarget
}

type draftTarget struct {
	to string
	// drop gives the target an ID and no message.
	drop bool
	// id is set by commit.
	id int64
}

// commit gives every target its message ID and publishes the draft to the log:
// one record for each partition that holds one of its conversations. It returns
// once all are committed. When it fails, some partitions may hold the message
// already; the sender gets an error and no false promise.
//
// Within a conversation, IDs grow in the order of the log: an ID is made and
// its record handed to the connection under one lock for each partition.
func (s *Service) commit(ctx context.Context, d *draft) error {
	if len(d.targets) == 1 {
		return s.commitOne(ctx, d)
	}
	byPartition := make([][]int, s.cfg.Partitions)
	for i := range d.targets {
		t := &d.targets[i]
		if t.drop {
			t.id = s.ids.Next()
			continue
		}
		p := bus.Partition(d.app, conversationOf(d.record, t.to), s.cfg.Partitions)
		byPartition[p] = append(byPartition[p], i)
	}
	var pending []*publishing
	for p, places := range byPartition {
		if len(places) == 0 {
			continue
		}
		f, err := s.publishRecord(p, d, places)
		if err != nil {
			return err
		}
		pending = append(pending, f)
	}
	for _, a := range pending {
		if err := s.acknowledged(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// publishing is a record on its way into the log.
type publishing struct {
	partition int
	pass      pass
	future    natsx.PubAckFuture
}

// acknowledged waits until a record is committed, and notes that readers who
// come later are to find it.
func (s *Service) acknowledged(ctx context.Context, r *publishing) error {
	place, duplicate, err := natsx.AwaitPlace(ctx, r.future, r.pass.changed)
	if err != nil {
		return err
	}
	if err := s.gates.acknowledge(r.partition, r.pass, place, duplicate); err != nil {
		return err
	}
	s.settling.acknowledged(r.partition, place)
	return nil
}

func (s *Service) commitOne(ctx context.Context, d *draft) error {
	t := &d.targets[0]
	if t.drop {
		t.id = s.ids.Next()
		return nil
	}
	p := bus.Partition(d.app, conversationOf(d.record, t.to), s.cfg.Partitions)
	f, err := s.publishRecord(p, d, []int{0})
	if err != nil {
		return err
	}
	return s.acknowledged(ctx, f)
}

// publishRecord publishes the record of one partition's targets.
func (s *Service) publishRecord(p int, d *draft, places []int) (*publishing, error) {
	common, err := proto.Marshal(d.record)
	if err != nil {
		return nil, errs.Internal(err)
	}
	subject := bus.LogSubject(p, d.record.GetKind(), d.app, "_")
	if len(places) == 1 {
		subject = bus.LogSubject(p, d.record.GetKind(), d.app, conversationOf(d.record, d.targets[places[0]].to))
	}
	data := make([]byte, len(common), len(common)+48*len(places))
	copy(data, common)

	s.orders[p].Lock()
	defer s.orders[p].Unlock()
	pass, err := s.gates.enter(p)
	if err != nil {
		return nil, err
	}
	for _, i := range places {
		t := &d.targets[i]
		t.id = s.ids.Next()
		data = appendTarget(data, t.id, t.to)
	}
	once := d.record.GetEvent()
	if once == "" {
		once = strconv.FormatInt(d.targets[places[0]].id, 10)
	}
	future, err := s.deps.NATS.PublishAsync(subject, data, once)
	if err != nil {
		return nil, err
	}
	return &publishing{partition: p, pass: pass, future: future}, nil
}

func conversationOf(r *busv1.LogRecord, to string) string {
	if r.GetKind() == busv1.Kind_KIND_USER {
		return names.UserConversation(r.GetFrom(), to)
	}
	return to
}
