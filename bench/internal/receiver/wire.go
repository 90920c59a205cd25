package receiver

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// Field numbers of the messages that are read or written by hand, because they
// occur once or more for each delivery.
const (
	fMSyncCommand = 8
	fMSyncPayload = 9

	fDLStatus  = 1
	fDLMetaID  = 2
	fDLMetas   = 4
	fDLNextKey = 5
	fDLQueue   = 6
	fDLIsLast  = 7

	fULKey   = 2
	fULQueue = 3

	fNoticeQueue = 1

	fUnreadQueues = 2
	fQueueJID     = 1

	fMetaNS      = 5
	fMetaPayload = 6
	nsStatistic  = 0
	nsChat       = 1
	nsNotify     = 5

	fBodyFrom     = 2
	fBodyContents = 4
	fContentText  = 2
	fJIDName      = 2
)

var errWire = errors.New("malformed frame")

// fields calls f for each field of a message; v holds numbers, b the bytes of
// length-delimited fields.
func fields(msg []byte, f func(num protowire.Number, v uint64, b []byte) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return errWire
		}
		msg = msg[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(msg)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(msg)
		default:
			n = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if n < 0 {
			return errWire
		}
		msg = msg[n:]
		if err := f(num, v, b); err != nil {
			return err
		}
	}
	return nil
}

// first gives the first length-delimited field with a number; nil if there is
// none.
func first(msg []byte, want protowire.Number) (found []byte) {
	_ = fields(msg, func(num protowire.Number, _ uint64, b []byte) error {
		if num == want && found == nil {
			found = b
		}
		return nil
	})
	return found
}

// envelope takes an MSync apart.
func envelope(frame []byte) (cmd msyncv1.MSync_Command, payload []byte, err error) {
	err = fields(frame, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case fMSyncCommand:
			cmd = msyncv1.MSync_Command(v)
		case fMSyncPayload:
			payload = b
		}
		return nil
	})
	return cmd, payload, err
}

// page is a CommSyncDL as far as a receiver needs it. queue and metas point
// into the frame.
type page struct {
	queue   []byte // serialized JID; nil on answers to sends
	metas   [][]byte
	nextKey uint64
	isLast  bool
	isAck   bool
	failed  bool
}

func (p *page) parse(payload []byte) error {
	*p = page{metas: p.metas[:0]}
	return fields(payload, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case fDLStatus:
			_ = fields(b, func(num protowire.Number, v uint64, _ []byte) error {
				p.failed = p.failed || (num == 1 && v != 0)
				return nil
			})
		case fDLMetaID:
			p.isAck = true
		case fDLMetas:
			p.metas = append(p.metas, b)
		case fDLNextKey:
			p.nextKey = v
		case fDLQueue:
			p.queue = b
		case fDLIsLast:
			p.isLast = v != 0
		}
		return nil
	})
}

// parseMeta takes apart what a page holds.
func parseMeta(meta []byte) (ns uint64, payload []byte, err error) {
	err = fields(meta, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case fMetaNS:
			ns = v
		case fMetaPayload:
			payload = b
		}
		return nil
	})
	return ns, payload, err
}

// appendPull appends a request for what follows key in a queue; key 0 leaves
// the confirmation out.
func appendPull(b []byte, queue []byte, key uint64) []byte {
	n := protowire.SizeTag(fULQueue) + protowire.SizeBytes(len(queue))
	if key != 0 {
		n += protowire.SizeTag(fULKey) + protowire.SizeVarint(key)
	}
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, 0)
	b = protowire.AppendTag(b, fMSyncCommand, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(msyncv1.MSync_SYNC))
	b = protowire.AppendTag(b, fMSyncPayload, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(n))
	if key != 0 {
		b = protowire.AppendTag(b, fULKey, protowire.VarintType)
		b = protowire.AppendVarint(b, key)
	}
	b = protowire.AppendTag(b, fULQueue, protowire.BytesType)
	return protowire.AppendBytes(b, queue)
}

// checkProvision reads the answer to a login.
func checkProvision(frame []byte) error {
	cmd, payload, err := envelope(frame)
	if err != nil {
		return err
	}
	if cmd != msyncv1.MSync_PROVISION {
		return fmt.Errorf("login was answered by a frame of kind %s", cmd)
	}
	var answer msyncv1.Provision
	if err := proto.Unmarshal(payload, &answer); err != nil {
		return fmt.Errorf("login answer: %w", err)
	}
	return msyncclient.CheckLogin(&answer)
}
