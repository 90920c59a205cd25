package windows

// table finds groups by hash: open addressing with linear probing over an
// index that is small enough for the processor's caches: four bytes a slot, at
// most seven eighths of them full, and neighbours share a line. The groups themselves stand side by side, so that a look-up
// costs one visit to main memory; with many keys those visits are what a check
// takes its time for.
//
// There is no deletion of single groups: drop makes the table anew. A pointer
// to a group is good until the next put or drop.
type table struct {
	// index holds a group's place in groups plus one and, above that, bits of
	// its hash. 0 is an empty slot.
	index  []uint32
	groups []group
}

// placeBits are what a place takes of a slot: 16 million groups in one shard
// are more than any machine has memory for. The hash's bits spare all but one
// in 256 looks at a wrong group.
const (
	placeBits = 24
	placeMask = 1<<placeBits - 1
)

// tag is the part of a hash that a slot holds: neither the highest bits, which
// all of a shard share, nor the lowest, which choose the slot.
func tag(hash uint64) uint32 { return uint32(hash>>40) << placeBits } // eight bits stay

// minSlots is the size of a small index, a power of two as all sizes are.
const minSlots = 8

// get finds a group, nil if there is none.
func (t *table) get(hash uint64, app int64, bucket string) *group {
	if len(t.index) == 0 {
		return nil
	}
	mask, want := uint64(len(t.index)-1), tag(hash)
	for i := hash & mask; ; i = (i + 1) & mask {
		x := t.index[i]
		if x == 0 {
			return nil
		}
		if x&^placeMask == want {
			if g := &t.groups[x&placeMask-1]; g.app == app && g.bucket == bucket {
				return g
			}
		}
	}
}

// put adds a group that is not there yet.
func (t *table) put(hash uint64, g group) *group {
	t.groups = append(t.groups, g)
	if 8*len(t.groups) > 7*len(t.index) {
		t.rebuild(max(minSlots, 2*len(t.index)))
	} else {
		t.enter(hash, len(t.groups))
	}
	return &t.groups[len(t.groups)-1]
}

func (t *table) enter(hash uint64, place int) {
	mask := uint64(len(t.index) - 1)
	i := hash & mask
	for t.index[i] != 0 {
		i = (i + 1) & mask
	}
	t.index[i] = tag(hash) | uint32(place) // from a length
}

// rebuild makes the index anew.
func (t *table) rebuild(size int) {
	t.index = make([]uint32, size)
	for i := range t.groups {
		t.enter(t.groups[i].hash(), i+1)
	}
}

// drop removes the groups that were not touched after a time, and returns
// them.
func (t *table) drop(untouchedSince int64) (dropped []group) {
	kept := 0
	for i := range t.groups {
		if t.groups[i].touched > untouchedSince {
			kept++
		}
	}
	if kept == len(t.groups) {
		return nil
	}
	old := t.groups
	dropped = make([]group, 0, len(old)-kept)
	t.groups = make([]group, 0, kept)
	for i := range old {
		if old[i].touched > untouchedSince {
			t.groups = append(t.groups, old[i])
		} else {
			dropped = append(dropped, old[i])
		}
	}
	size := minSlots
	for 7*size < 8*kept {
		size *= 2
	}
	t.rebuild(size)
	return dropped
}
