package session

import "github.com/chappe-im/chappe/pkg/ident"

// phase tells what a device is doing with a queue.
type phase uint8

const (
	// idle: nothing; what comes next may be pushed.
	idle phase = iota
	// notified: the device knows that there is something and will pull.
	notified
	// pulling: a page answered a pull; its confirmation is the next pull and
	// must be answered too.
	pulling
	// pushed: a page was sent without a pull; its confirmation needs no answer.
	pushed
)

// rememberedPages is how many page tokens a queue can still map to a place.
const rememberedPages = 4

// queueLimits bound what one queue keeps in memory and puts on one page.
type queueLimits struct {
	tailEntries, tailBytes int
	pageEntries, pageBytes int
}

// entry is one entry that the device is to be shown, already encoded.
type entry struct {
	seq  int64
	meta []byte
}

// page is a page that was sent.
type page struct {
	token   uint64
	through int64
	pulled  bool
}

// queue is a device's view of one conversation. Places (seq) are dense, so the
// queue knows from three numbers what it has to do:
//
//	confirmed <= tailFrom <= last
//
// The device has confirmed all up to confirmed. What lies in (tailFrom, last] is
// in the tail, as far as the device may see it. What lies in (confirmed,
// tailFrom] is only in the archive. It has no lock and no clock of its own.
type queue struct {
	conversation ident.ConversationID
	jid          []byte // encoded JID, shared with nobody

	confirmed, tailFrom, last int64

	tail      []entry
	tailBytes int

	// mem counts the tail's bytes with those of all others.
	mem *memory

	// pages are those sent last, the one under way among them: the page that the
	// device has and has not confirmed, of which there is at most one. Its token
	// is outToken, 0 when there is none.
	pages    [rememberedPages]page
	nextPage uint8
	outToken uint64

	phase phase
	// owed counts the pulls that are still to be answered: those that came while
	// a page was under way.
	owed uint16
	// since is when phase began, used when the queue was last touched; Unix
	// milliseconds.
	since, used int64
	// logged is the place in the log of the newest entry that was pushed.
	logged uint64
}

// maxOwed bounds the pulls that are owed an answer. A device that has more under
// way in one queue gets one answer for all beyond.
const maxOwed = 1000

// owe notes a pull that is to be answered.
func (q *queue) owe() {
	if q.owed < maxOwed {
		q.owed++
	}
}

// underWay reports whether the device has a page that it has not confirmed.
func (q *queue) underWay() bool { return q.outToken != 0 }

// pending reports whether there is something that the device has not confirmed.
func (q *queue) pending() bool { return q.last > q.confirmed }

// inArchive reports whether the next page must come from the archive.
func (q *queue) inArchive() bool { return q.confirmed < q.tailFrom }

// offer takes a live entry; meta is nil when the device is not to see it. It
// reports whether the entry was new.
func (q *queue) offer(seq int64, meta []byte, lim queueLimits) bool {
	if seq <= q.last {
		return false // seen, or behind a gap and so in the archive
	}
	if seq > q.last+1 {
		q.dropTail(seq - 1)
	}
	q.last = seq
	if meta != nil {
		if len(q.tail) >= lim.tailEntries || q.tailBytes+len(meta) > lim.tailBytes || !q.mem.fits(len(meta)+entryOverhead) {
			q.dropTail(seq)
			return true
		}
		q.tail = append(q.tail, entry{seq, meta})
		q.tailBytes += len(meta)
		q.mem.add(len(meta) + entryOverhead)
	}
	q.settle()
	return true
}

// dropTail leaves everything up to through to the archive.
func (q *queue) dropTail(through int64) {
	q.mem.add(-q.tailBytes - entryOverhead*len(q.tail))
	q.tail, q.tailBytes = nil, 0
	q.tailFrom = through
	q.last = max(q.last, through)
}

// settle moves over entries that the device is not to see and that are next in
// line: there is nothing in them to confirm.
func (q *queue) settle() {
	if q.inArchive() {
		return
	}
	to := q.last
	if len(q.tail) > 0 {
		to = q.tail[0].seq - 1
	}
	q.confirmed = max(q.confirmed, to)
	q.tailFrom = q.confirmed
}

// confirmTo notes that the device has everything up to seq.
func (q *queue) confirmTo(seq int64) {
	if seq <= q.confirmed {
		return
	}
	q.confirmed = seq
	if seq > q.tailFrom {
		n := 0
		for n < len(q.tail) && q.tail[n].seq <= seq {
			q.tailBytes -= len(q.tail[n].meta)
			q.mem.add(-len(q.tail[n].meta) - entryOverhead)
			n++
		}
		if n == len(q.tail) {
			q.tail = nil
		} else {
			q.tail = q.tail[n:]
		}
		q.tailFrom = seq
		q.last = max(q.last, seq)
	}
	q.settle()
}

// confirm takes a page token from the device. known is false for tokens of
// other connections and for those long forgotten, which confirm nothing; pulled
// tells whether the page answered a pull.
func (q *queue) confirm(token uint64) (known, pulled bool) {
	for _, p := range q.pages {
		if p.token == token && token != 0 {
			q.confirmTo(p.through)
			q.landed()
			return true, p.pulled
		}
	}
	return false, false
}

// landed ends the page under way if all on it is confirmed.
func (q *queue) landed() {
	for _, p := range q.pages {
		if p.token == q.outToken && q.confirmed >= p.through {
			q.outToken = 0
			return
		}
	}
}

// tailPage gives the next page out of the tail and the place it reaches. Call
// it only when there is something pending that is not in the archive.
func (q *queue) tailPage(lim queueLimits) ([]entry, int64) {
	return cut(q.tail, q.last, lim)
}

// archivePage takes what the archive gave for what comes after a place and
// gives the next page and the place it reaches. Without entries and with
// through at confirmed the archive has nothing more yet.
func (q *queue) archivePage(entries []entry, through, last int64, lim queueLimits) ([]entry, int64) {
	if last > q.last {
		q.dropTail(last)
	}
	for len(entries) > 0 && entries[0].seq <= q.confirmed {
		entries = entries[1:]
	}
	through = max(through, q.confirmed)
	q.last = max(q.last, through)
	if len(entries) == 0 {
		q.confirmTo(through)
		return nil, through
	}
	return cut(entries, through, lim)
}

// cut takes as many entries as fit on a page, at least one; through is the
// place that all of them reach.
func cut(entries []entry, through int64, lim queueLimits) ([]entry, int64) {
	bytes := 0
	for i, e := range entries {
		bytes += len(e.meta)
		if i > 0 && (i == lim.pageEntries || bytes > lim.pageBytes) {
			return entries[:i], e.seq - 1
		}
	}
	return entries, through
}

// sent remembers a page that goes out.
func (q *queue) sent(p page, now int64) {
	q.pages[q.nextPage] = p
	q.nextPage = (q.nextPage + 1) % rememberedPages
	q.outToken = p.token
	if p.pulled {
		q.enter(pulling, now)
	} else {
		q.enter(pushed, now)
	}
}

// enter begins a phase.
func (q *queue) enter(p phase, now int64) {
	q.phase, q.since, q.used = p, now, now
}

// known corrects a queue by what the archive knows: the place that the device
// has confirmed, and the newest entry.
func (q *queue) known(confirmed, last int64) {
	q.confirmTo(confirmed)
	if last > q.last {
		q.dropTail(last)
	}
	q.settle()
}
