// Package traffic puts load on servers while tests do them harm, and says
// afterwards what became of each message: writers send by REST and as client
// devices, receivers log in and out as devices of the client protocol, and a
// ledger compares what was acknowledged with what the devices were shown and
// with the archive.
package traffic

import (
	"fmt"
	"slices"
	"time"
)

// RepeatWindow is how long before a kill a message may have been shown to come
// again afterwards: the 200 ms after which a confirmation is kept, and 100 ms
// for a busy machine to write down when it saw what.
const RepeatWindow = 300 * time.Millisecond

// EndWindow is how long before the end of its connection a message may have
// been shown to come again: its confirmation may not have left the device, or
// not have been read.
const EndWindow = 100 * time.Millisecond

// Sent is an acknowledged message.
type Sent struct {
	Conversation, Recipient string
	ID                      string
	Text                    string
	Begun, Acked            time.Time
}

// Archived is a message as the archive lists it.
type Archived struct {
	Seq      int64
	ID, Text string
}

// Shown is a message that a device was shown.
type Shown struct {
	At       time.Time
	Login    int
	ID, Text string
}

// Span is a time from whose beginning on what was shown may come again, until
// its end.
type Span struct{ From, To time.Time }

// kill is the span of a disruption that everybody felt.
func kill(from, to time.Time) Span { return Span{from.Add(-RepeatWindow), to} }

// end is the span of a connection that ended.
func end(at time.Time) Span { return Span{at.Add(-EndWindow), at} }

// Device is what one device was shown, in order.
type Device struct {
	User, Resource string
	// Stays says that it connects again at once whenever it is cut off.
	Stays bool
	Shown []Shown
	// Ends are those of its connections.
	Ends []Span
}

// Ledger is everything that was observed of a load.
type Ledger struct {
	Sent    []Sent
	Archive map[string][]Archived // by conversation, in the order it was listed
	Devices []Device
	// Kills are disruptions that all devices felt.
	Kills []Span
	// Over is when the first fault had ended; zero if there was none.
	Over time.Time
}

// Verdict counts what is wrong. All but Repeats must be zero.
type Verdict struct {
	// Lost are acknowledged and archived messages that some device was never
	// shown.
	Lost int `json:"lost"`
	// Unarchived are acknowledged messages that the archive does not hold;
	// UnarchivedAfter those of them that were acknowledged after the first fault.
	Unarchived      int `json:"unarchived"`
	UnarchivedAfter int `json:"unarchived_after"`
	// Twice are showings of a message that the device had been shown before,
	// without a disruption that excuses it.
	Twice int `json:"twice"`
	// Repeats are those that a disruption excuses.
	Repeats int `json:"repeats"`
	// Late are messages shown after a later one of their conversation.
	Late int `json:"late"`
	// Doubled are texts that the archive holds more than once.
	Doubled int `json:"doubled"`
	// Holes are places of conversations that are not one above their
	// predecessor.
	Holes int `json:"holes"`
	// Examples names some of what is wrong.
	Examples []string `json:"examples,omitempty"`
}

// maxExamples bounds the examples of each kind.
const maxExamples = 6

func (v *Verdict) note(counter *int, format string, args ...any) {
	*counter++
	if *counter <= maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// Clean reports whether nothing is wrong.
func (v *Verdict) Clean() bool {
	return v.Lost+v.Unarchived+v.Twice+v.Late+v.Doubled+v.Holes == 0
}

// place is where the archive has a message.
type place struct {
	conversation string
	seq          int64
}

// Judge compares what was acknowledged with the archive and the devices.
func (l *Ledger) Judge() Verdict {
	var v Verdict
	places := l.judgeArchive(&v)
	lost := map[string]bool{}
	for _, d := range l.Devices {
		seen := l.judgeDevice(&v, d, places)
		for _, s := range l.Sent {
			_, archived := places[s.ID]
			if s.Recipient == d.User && archived && !seen[s.ID] && !lost[s.ID] {
				lost[s.ID] = true
				v.note(&v.Lost, "lost: %s (%s), acknowledged %s, never shown to %s/%s", s.Text, s.ID, clock(s.Acked), d.User, d.Resource)
			}
		}
	}
	return v
}

// judgeArchive wants each acknowledged message once, in dense places.
func (l *Ledger) judgeArchive(v *Verdict) map[string]place {
	places := map[string]place{}
	for conversation, all := range l.Archive {
		texts := map[string]bool{}
		last := int64(0)
		for _, m := range all {
			if m.Seq != last+1 {
				v.note(&v.Holes, "hole: %s goes from %d to %d", conversation, last, m.Seq)
			}
			last = m.Seq
			if texts[m.Text] {
				v.note(&v.Doubled, "archived twice: %s as %s", m.Text, m.ID)
			}
			texts[m.Text] = true
			places[m.ID] = place{conversation, m.Seq}
		}
	}
	for _, s := range l.Sent {
		if p, ok := places[s.ID]; !ok || p.conversation != s.Conversation {
			if !l.Over.IsZero() && s.Acked.After(l.Over) {
				v.UnarchivedAfter++
			}
			v.note(&v.Unarchived, "not archived: %s (%s), acknowledged %s", s.Text, s.ID, clock(s.Acked))
		}
	}
	return places
}

// judgeDevice wants each message once and in the order of its conversation, and
// returns which were shown.
func (l *Ledger) judgeDevice(v *Verdict, d Device, places map[string]place) map[string]bool {
	type past struct {
		at    time.Time
		login int
	}
	before := map[string]past{}
	newest := map[string]int64{}
	seen := map[string]bool{}
	for _, s := range d.Shown {
		if was, again := before[s.ID]; again {
			if l.excused(d, was.at, s.At) {
				v.Repeats++
			} else {
				v.note(&v.Twice, "twice: %s to %s/%s at %s (login %d) and %s (login %d)", s.Text, d.User, d.Resource, clock(was.at), was.login, clock(s.At), s.Login)
			}
			before[s.ID] = past{s.At, s.Login}
			continue
		}
		before[s.ID] = past{s.At, s.Login}
		seen[s.ID] = true
		p, ok := places[s.ID]
		if !ok {
			continue // counted with the archive if it was acknowledged
		}
		if p.seq < newest[p.conversation] {
			v.note(&v.Late, "late: %s (place %d) to %s/%s at %s (login %d), after place %d", s.Text, p.seq, d.User, d.Resource, clock(s.At), s.Login, newest[p.conversation])
		}
		newest[p.conversation] = max(newest[p.conversation], p.seq)
	}
	return seen
}

// excused reports whether a disruption lies between two showings that lets the
// second follow the first.
func (l *Ledger) excused(d Device, first, second time.Time) bool {
	for _, c := range slices.Concat(l.Kills, d.Ends) {
		if !first.Before(c.From) && !first.After(c.To) && second.After(c.To) {
			return true
		}
	}
	return false
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }
