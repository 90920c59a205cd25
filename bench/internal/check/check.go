// Package check proves that everything sent arrived once and in order. A
// conversation has one writer that numbers its messages 1, 2, 3 …; the numbers
// travel in the text of the messages.
package check

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Tag names one message in its text.
type Tag struct {
	// Run tells the messages of this run from those of earlier ones.
	Run string
	// Conversation is the number of the conversation within the run.
	Conversation int
	// Seq is the place of the message in its conversation, from 1.
	Seq int
}

// AppendTo appends the text form of the tag: "cb1 run conversation seq ".
func (t Tag) AppendTo(b []byte) []byte {
	b = append(b, "cb1 "...)
	b = append(b, t.Run...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(t.Conversation), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(t.Seq), 10)
	return append(b, ' ')
}

// Parse reads the tag at the beginning of a text.
func Parse(text string) (Tag, bool) {
	rest, ok := strings.CutPrefix(text, "cb1 ")
	if !ok {
		return Tag{}, false
	}
	run, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return Tag{}, false
	}
	conv, rest, ok := strings.Cut(rest, " ")
	if !ok {
		return Tag{}, false
	}
	seq, _, ok := strings.Cut(rest, " ")
	if !ok {
		return Tag{}, false
	}
	c, err1 := strconv.Atoi(conv)
	s, err2 := strconv.Atoi(seq)
	if err1 != nil || err2 != nil || c < 0 || s < 1 {
		return Tag{}, false
	}
	return Tag{Run: run, Conversation: c, Seq: s}, true
}

// Report says what went wrong; all zero but Accepted and Arrived is a pass.
type Report struct {
	// Accepted by the server, that is, acknowledged to the sender.
	Accepted int64 `json:"accepted"`
	// Uncertain sends got no answer or an error after which the message may or
	// may not have been taken: it may arrive, but only once and in order.
	Uncertain int64 `json:"uncertain"`
	// Arrived counts distinct messages.
	Arrived int64 `json:"arrived"`
	// Lost messages were accepted and never arrived.
	Lost int64 `json:"lost"`
	// Duplicated counts arrivals beyond the first.
	Duplicated int64 `json:"duplicated"`
	// Reordered messages arrived after a later one of their conversation.
	Reordered int64 `json:"reordered"`
	// Foreign arrivals were never sent to this conversation in this run.
	Foreign int64 `json:"foreign"`
	// Examples of faults, at most ten.
	Examples []string `json:"examples,omitempty"`
}

// OK reports whether nothing went wrong.
func (r Report) OK() bool {
	return r.Lost == 0 && r.Duplicated == 0 && r.Reordered == 0 && r.Foreign == 0
}

// Err describes what went wrong; nil if nothing.
func (r Report) Err() error {
	if r.OK() {
		return nil
	}
	return fmt.Errorf("of %d accepted messages %d were lost; %d came twice, %d out of order, %d from nowhere: %s",
		r.Accepted, r.Lost, r.Duplicated, r.Reordered, r.Foreign, strings.Join(r.Examples, "; "))
}

// Tracker follows the conversations of one run. It is safe for concurrent use;
// conversations do not contend with each other.
type Tracker struct {
	run   string
	convs []conversation

	mu       sync.Mutex
	foreign  int64
	examples []string
}

// state of one message, as bits.
const (
	stateTried uint8 = 1 << iota
	stateAccepted
	stateArrived
)

type conversation struct {
	mu        sync.Mutex
	states    []uint8 // by seq-1
	last      int     // highest seq that arrived
	accepted  int64
	arrived   int64
	dup       int64
	reordered int64
}

// maxExamples bounds the faults that a report shows.
const maxExamples = 10

// NewTracker follows a run with the given number of conversations.
func NewTracker(run string, conversations int) *Tracker {
	return &Tracker{run: run, convs: make([]conversation, conversations)}
}

func (c *conversation) state(seq int) *uint8 {
	for len(c.states) < seq {
		c.states = append(c.states, 0)
	}
	return &c.states[seq-1]
}

// Tried says that a message is about to be sent. It must come before the send:
// what arrives untried counts as foreign.
func (t *Tracker) Tried(conv, seq int) {
	c := &t.convs[conv]
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.state(seq) |= stateTried
}

// Accepted says that the server has acknowledged a message, which must arrive
// from now on.
func (t *Tracker) Accepted(conv, seq int) {
	c := &t.convs[conv]
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.state(seq); *s&stateAccepted == 0 {
		*s |= stateTried | stateAccepted
		c.accepted++
	}
}

// Refused says that the server has definitely not taken a message, so that its
// number may be used again.
func (t *Tracker) Refused(conv, seq int) {
	c := &t.convs[conv]
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.state(seq) &^= stateTried
}

// Arrived says that a text came in on a conversation. It reports whether it
// was the first arrival of a message of this run.
func (t *Tracker) Arrived(conv int, text string) bool {
	tag, ok := Parse(text)
	if !ok || tag.Run != t.run || tag.Conversation != conv || conv >= len(t.convs) {
		t.fault(true, fmt.Sprintf("conversation %d got %.60q", conv, text))
		return false
	}
	return t.ArrivedSeq(conv, tag.Seq)
}

// ArrivedSeq is Arrived for a tag that the caller has parsed and compared.
func (t *Tracker) ArrivedSeq(conv, seq int) bool {
	c := &t.convs[conv]
	c.mu.Lock()
	defer c.mu.Unlock()
	if seq > len(c.states) || c.states[seq-1]&stateTried == 0 {
		t.fault(true, fmt.Sprintf("conversation %d got %d, which was not sent", conv, seq))
		return false
	}
	s := &c.states[seq-1]
	if *s&stateArrived != 0 {
		c.dup++
		t.fault(false, fmt.Sprintf("conversation %d got %d again", conv, seq))
		return false
	}
	*s |= stateArrived
	c.arrived++
	if seq < c.last {
		c.reordered++
		t.fault(false, fmt.Sprintf("conversation %d got %d after %d", conv, seq, c.last))
	}
	c.last = max(c.last, seq)
	return true
}

func (t *Tracker) fault(foreign bool, example string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if foreign {
		t.foreign++
	}
	if len(t.examples) < maxExamples {
		t.examples = append(t.examples, example)
	}
}

// Pending counts accepted messages that have not arrived yet.
func (t *Tracker) Pending() int64 {
	var n int64
	for i := range t.convs {
		c := &t.convs[i]
		c.mu.Lock()
		for _, s := range c.states {
			if s&(stateAccepted|stateArrived) == stateAccepted {
				n++
			}
		}
		c.mu.Unlock()
	}
	return n
}

// PendingOf counts accepted messages of one conversation that have not arrived
// yet.
func (t *Tracker) PendingOf(conv int) int64 {
	c := &t.convs[conv]
	c.mu.Lock()
	defer c.mu.Unlock()
	var n int64
	for _, s := range c.states {
		if s&(stateAccepted|stateArrived) == stateAccepted {
			n++
		}
	}
	return n
}

// Report draws the balance: what is accepted and has not arrived is lost.
func (t *Tracker) Report() Report {
	var r Report
	var lost []string
	for i := range t.convs {
		c := &t.convs[i]
		c.mu.Lock()
		r.Accepted += c.accepted
		r.Arrived += c.arrived
		r.Duplicated += c.dup
		r.Reordered += c.reordered
		for j, s := range c.states {
			switch {
			case s&(stateAccepted|stateArrived) == stateAccepted:
				r.Lost++
				if len(lost) < maxExamples {
					lost = append(lost, fmt.Sprintf("conversation %d lost %d", i, j+1))
				}
			case s&(stateTried|stateAccepted) == stateTried:
				r.Uncertain++
			}
		}
		c.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Foreign = t.foreign
	r.Examples = append(append([]string{}, t.examples...), lost...)
	r.Examples = r.Examples[:min(len(r.Examples), maxExamples)]
	return r
}
