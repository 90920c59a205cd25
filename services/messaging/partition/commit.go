package partition

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/natsx"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Draft is a checked send on its way into the log.
type Draft struct {
	App ident.AppKey
	// Record is what all targets share.
	Record  *busv1.LogRecord
	Targets []Target
	// RepeatKey is the same for every repetition of a send; empty when it cannot
	// be told. It goes with a single target.
	RepeatKey string
}

// Target is one recipient of a draft.
type Target struct {
	// To is a user's ID, or a group's or room's by the kind of the record.
	To string
	// Drop gives the target an ID and no message.
	Drop bool
	// ID is set by Commit.
	ID int64
}

// Commit gives every target its message ID and publishes the draft to the log:
// one record for each partition that holds one of its conversations. It returns
// once all are committed. When it fails, some partitions may hold the message
// already; the sender gets an error and no false promise.
//
// Within a conversation, IDs grow in the order of the log: an ID is made and
// its record handed to the connection under one lock for each partition.
func (l *Log) Commit(ctx context.Context, d *Draft) error {
	if len(d.Targets) == 1 {
		return l.commitOne(ctx, d)
	}
	byPartition := make([][]int, l.cfg.Partitions)
	for i := range d.Targets {
		t := &d.Targets[i]
		if t.Drop {
			t.ID = l.ids.Next()
			continue
		}
		p := l.Partition(d.App, ConversationOf(d.Record, t.To))
		byPartition[p] = append(byPartition[p], i)
	}
	var pending []*publishing
	for p, targets := range byPartition {
		if len(targets) == 0 {
			continue
		}
		f, err := l.publishRecord(p, d, targets)
		if err != nil {
			return err
		}
		pending = append(pending, f)
	}
	for _, a := range pending {
		if err := l.acknowledged(ctx, a); err != nil {
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
	draft     *Draft
}

// acknowledged waits until a record is committed. A repetition gets the ID and
// the time of what it repeats.
func (l *Log) acknowledged(ctx context.Context, r *publishing) error {
	offset, duplicate, err := natsx.AwaitPlace(ctx, r.future, r.pass.changed)
	if err != nil {
		return err
	}
	if err := l.gates.acknowledge(r.partition, r.pass, offset, duplicate); err != nil {
		return err
	}
	if duplicate && r.draft.RepeatKey != "" {
		return l.recall(ctx, r.partition, offset, r.draft)
	}
	return nil
}

// recall gives a draft the ID and the time of the record that it repeats.
func (l *Log) recall(ctx context.Context, partition int, offset uint64, d *Draft) error {
	data, ok, err := l.nats.StreamRecord(ctx, bus.LogStream(partition), offset)
	if err != nil {
		return err
	}
	var first busv1.LogRecord
	if !ok || proto.Unmarshal(data, &first) != nil || len(first.GetTargets()) != 1 {
		return errs.Unavailable("message log", fmt.Errorf("record %d of partition %d, which a send repeats, is not there", offset, partition))
	}
	d.Targets[0].ID, d.Record.Timestamp = first.GetTargets()[0].GetId(), first.GetTimestamp()
	return nil
}

func (l *Log) commitOne(ctx context.Context, d *Draft) error {
	t := &d.Targets[0]
	if t.Drop {
		t.ID = l.ids.Next()
		return nil
	}
	p := l.Partition(d.App, ConversationOf(d.Record, t.To))
	f, err := l.publishRecord(p, d, []int{0})
	if err != nil {
		return err
	}
	return l.acknowledged(ctx, f)
}

// publishRecord publishes the record of one partition's targets.
func (l *Log) publishRecord(p int, d *Draft, targets []int) (*publishing, error) {
	common, err := proto.Marshal(d.Record)
	if err != nil {
		return nil, errs.Internal(err)
	}
	subject := bus.LogSubject(p, d.Record.GetKind(), string(d.App), "_")
	if len(targets) == 1 {
		subject = bus.LogSubject(p, d.Record.GetKind(), string(d.App), string(ConversationOf(d.Record, d.Targets[targets[0]].To)))
	}
	data := make([]byte, len(common), len(common)+48*len(targets))
	copy(data, common)

	l.commitLocks[p].Lock()
	defer l.commitLocks[p].Unlock()
	pass, err := l.gates.enter(p)
	if err != nil {
		return nil, err
	}
	for _, i := range targets {
		t := &d.Targets[i]
		t.ID = l.ids.Next()
		data = appendTarget(data, t.ID, t.To)
	}
	once := cmp.Or(d.Record.GetEvent(), d.RepeatKey)
	if once == "" {
		once = strconv.FormatInt(d.Targets[targets[0]].ID, 10)
	}
	future, err := l.nats.PublishAsync(subject, data, once)
	if err != nil {
		return nil, err
	}
	return &publishing{partition: p, pass: pass, future: future, draft: d}, nil
}

// ConversationOf returns the conversation that a record belongs to for one of
// its targets.
func ConversationOf(r *busv1.LogRecord, to string) ident.ConversationID {
	if r.GetKind() == busv1.Kind_KIND_USER {
		return ident.UserConversation(ident.UserID(r.GetFrom()), ident.UserID(to))
	}
	return ident.ConversationID(to)
}
