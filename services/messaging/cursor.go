package messaging

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/chappe-im/chappe/pkg/errs"
)

// progress is how far a subscriber is in one partition's stream: all records up
// to and including offset, and so many targets of the one after.
type progress struct {
	offset  uint64
	targets uint64
	// epoch of the log that offset is of.
	epoch int64
}

// Versions of cursors. One without epochs was made in the first.
const (
	cursorWithoutEpochs = 1
	cursorVersion       = 2
)

// encodeCursor writes the progress in all partitions as opaque text.
func encodeCursor(parts []progress) string {
	b := []byte{cursorVersion}
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, p := range parts {
		b = binary.AppendUvarint(b, p.offset)
		b = binary.AppendUvarint(b, p.targets)
		b = binary.AppendUvarint(b, uint64(p.epoch))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeCursor(text string, partitions int) ([]progress, error) {
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
	if n, ok := next(); !ok || n != uint64(partitions) {
		return nil, errs.Invalid("cursor is not one of this cluster")
	}
	out := make([]progress, partitions)
	for i := range out {
		var ok1, ok2 bool
		out[i].offset, ok1 = next()
		out[i].targets, ok2 = next()
		var epoch uint64
		ok3 := true
		if epochs {
			epoch, ok3 = next()
		}
		if !ok1 || !ok2 || !ok3 {
			return nil, errs.Invalid("cursor is cut short")
		}
		out[i].epoch = int64(epoch)
	}
	if len(b) != 0 {
		return nil, errs.Invalid("cursor is not one of this service")
	}
	return out, nil
}

// restart returns from where a subscriber of an older epoch goes on: where
// it was if the log still is what it was there, else where the log went other
// ways. What had been in the old log behind that, it does not get any more.
func restart(was progress, epoch int64, began, first uint64) progress {
	to := progress{offset: began, epoch: epoch}
	if was.epoch < epoch-1 {
		to.offset = 0 // there were epochs in between: better twice than not at all
	}
	if was.offset < to.offset {
		to.offset, to.targets = was.offset, was.targets
	}
	if first > to.offset+1 {
		to.offset, to.targets = first-1, 0
	}
	return to
}
