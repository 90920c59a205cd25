package windows

// table finds groups by hash: open addressing with linear probing, at most
// half full. A built-in map would hash the names of every call again and touch
// more of memory; the checks' time goes into just that.
//
// There is no deletion of single groups: drop makes the table anew.
type table struct {
	slots []slot
	n     int
}

type slot struct {
	hash  uint64
	group *group
}

// minSlots is the size of a small table, a power of two as all sizes are.
const minSlots = 8

// get finds a group, nil if there is none.
func (t *table) get(hash uint64, app int64, bucket string) *group {
	if len(t.slots) == 0 {
		return nil
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.group == nil {
			return nil
		}
		if s.hash == hash && s.group.app == app && s.group.bucket == bucket {
			return s.group
		}
	}
}

// put adds a group that is not there yet.
func (t *table) put(hash uint64, g *group) {
	if 2*(t.n+1) > len(t.slots) {
		t.resize(max(minSlots, 2*len(t.slots)))
	}
	t.insert(hash, g)
	t.n++
}

func (t *table) insert(hash uint64, g *group) {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].group != nil {
		i = (i + 1) & mask
	}
	t.slots[i] = slot{hash, g}
}

func (t *table) resize(size int) {
	old := t.slots
	t.slots = make([]slot, size)
	for _, s := range old {
		if s.group != nil {
			t.insert(s.hash, s.group)
		}
	}
}

// drop removes the groups that were not touched after a time, and returns
// them.
func (t *table) drop(untouchedSince int64) (dropped []*group) {
	for _, s := range t.slots {
		if s.group != nil && s.group.touched <= untouchedSince {
			dropped = append(dropped, s.group)
		}
	}
	if len(dropped) == 0 {
		return nil
	}
	old := t.slots
	t.n -= len(dropped)
	size := minSlots
	for size < 4*t.n {
		size *= 2
	}
	t.slots = make([]slot, size)
	for _, s := range old {
		if s.group != nil && s.group.touched > untouchedSince {
			t.insert(s.hash, s.group)
		}
	}
	return dropped
}
