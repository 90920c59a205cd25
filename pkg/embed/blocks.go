package embed

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/chappe-im/chappe/pkg/obs"
)

// JetStream keeps a stream in files of records, "blocks", and an index of them
// that it believes at its start. A flipped bit in the length or the number of a
// record of a block that the index vouches for has it count up to that number,
// in memory and without end. So the newest blocks are looked through before the
// start, and where one is damaged the index is taken away: the blocks are then
// read anew with their checksums, and cut where they are wrong.
const (
	// lookedThrough is how many bytes of blocks are looked through for each
	// stream, the newest first: more than what JetStream itself reads at its
	// start, which is two minutes of messages.
	lookedThrough = 64 << 20

	recordHeader = 22
	recordHash   = 8
	maxRecord    = 32 << 20
	// maxJump is how far the numbers of two neighbours in a block may be apart: a
	// block is written without gaps, and holds fewer records than that.
	maxJump = 1 << 24

	hasHeaders = uint32(1) << 31
	isErased   = uint64(1) << 63
	isMarker   = uint64(1) << 62
)

// dropDamagedIndexes removes the indexes of streams below a store directory
// whose newest blocks are damaged.
func dropDamagedIndexes(store string, logger *slog.Logger) {
	folders, _ := filepath.Glob(filepath.Join(store, "jetstream", "*", "streams", "*", "msgs"))
	for _, folder := range folders {
		index := filepath.Join(folder, "index.db")
		if _, err := os.Stat(index); err != nil {
			continue
		}
		if bad := damagedBlock(folder); bad != "" {
			logger.Error("a file of the embedded NATS is damaged: what can be read of it is kept", "file", bad)
			if err := os.Remove(index); err != nil {
				logger.Error("its index cannot be removed", "file", index, obs.KeyError, err)
			}
		}
	}
}

// damagedBlock returns one of the newest blocks of a folder whose records do
// not follow on each other; empty if there is none.
func damagedBlock(folder string) string {
	blocks, _ := filepath.Glob(filepath.Join(folder, "*.blk"))
	number := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".blk"))
		return n
	}
	slices.SortFunc(blocks, func(a, b string) int { return number(b) - number(a) })
	read := 0
	for _, path := range blocks {
		data, err := os.ReadFile(path) //nolint:gosec // below the data directory
		if err != nil {
			continue // the server will say so
		}
		if !recordsFollow(data) {
			return path
		}
		if read += len(data); read >= lookedThrough {
			break
		}
	}
	return ""
}

// recordsFollow reports whether a block consists of records of possible
// lengths with numbers that grow by little.
func recordsFollow(data []byte) bool {
	last := uint64(0)
	for len(data) > 0 {
		if len(data) < recordHeader {
			return false
		}
		length := binary.LittleEndian.Uint32(data) &^ hasHeaders
		if length < recordHeader+recordHash || length > maxRecord || uint64(length) > uint64(len(data)) {
			return false
		}
		number := binary.LittleEndian.Uint64(data[4:])
		data = data[length:]
		if number&isMarker != 0 {
			continue
		}
		number &^= isErased
		if last > 0 && (number > last+maxJump || number+maxJump < last) {
			return false
		}
		last = max(last, number)
	}
	return true
}
