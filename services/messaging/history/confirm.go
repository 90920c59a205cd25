package history

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// Confirmed is how far a device has confirmed a conversation.
type Confirmed struct {
	App          int64
	User         ident.UserID
	Resource     string
	Conversation ident.ConversationID
	Seq          int64
	// Epoch is that of the conversation's Partition of the log when the device
	// confirmed.
	Epoch     int64
	Partition int
}

// compare orders by the rows that positions are in.
func (p Confirmed) compare(o Confirmed) int {
	return cmp.Or(cmp.Compare(p.App, o.App), cmp.Compare(p.User, o.User), cmp.Compare(p.Resource, o.Resource), cmp.Compare(p.Conversation, o.Conversation))
}

// Confirm moves positions forward, all in one transaction, and returns the
// indexes of those that are early: a push runs ahead of the archive, and so may
// what a device confirms. A position is stored only as far as the archive holds
// the conversation, for an entry that is pushed and never archived could give its
// seq to another, and it does once a new epoch of the log begins. Positions of
// devices that do not exist are left out.
func (d *Devices) Confirm(ctx context.Context, all []Confirmed) (early []int, err error) {
	// Two gateways hand on positions of one device when it went from one to the
	// other; in one order of their rows, neither waits for a row of the other's
	// while it holds one.
	inOrder := make([]int, len(all))
	for i := range all {
		inOrder[i] = i
	}
	slices.SortFunc(inOrder, func(a, b int) int { return all[a].compare(all[b]) })
	err = d.db.Write(ctx, func(tx *sql.Tx) error {
		early = nil
		for rest := inOrder; len(rest) > 0; {
			n := 1
			for n < min(len(rest), maxMoved) && all[rest[n-1]].compare(all[rest[n]]) != 0 {
				n++
			}
			before, err := move(ctx, tx, all, rest[:n])
			if err != nil {
				return err
			}
			early, rest = append(early, before...), rest[n:]
		}
		return nil
	})
	return early, err
}

// maxMoved bounds the positions of one statement.
const maxMoved = 64

// move moves some positions forward, none of them twice, and returns those that
// are early. Each statement takes all of them: between machines that are busy, a
// round trip for each takes longer than a confirmation may.
func move(ctx context.Context, tx *sql.Tx, all []Confirmed, some []int) (early []int, err error) {
	moved := make([]Confirmed, len(some))
	for n, i := range some {
		moved[n] = all[i]
	}
	found := map[int]bool{}
	var past []int // of moved
	// What is archived after this was asked is stored by the next try.
	if err := store.Each(ctx, tx, `SELECT x.i, c.newest, COALESCE(l.epoch, 0) FROM `+positionsTable(len(moved))+`
		JOIN (`+newestSeqs+`) c ON c.app = x.app AND c.name = x.conversation LEFT JOIN log_positions l ON l.partition_no = x.part`,
		positionArgs(moved), func(row store.Scanner) error {
			var i int
			var newest, epoch int64
			if err := row.Scan(&i, &newest, &epoch); err != nil {
				return err
			}
			found[i] = true
			switch p := &moved[i]; {
			case p.Epoch != epoch:
				past = append(past, i)
			case newest < p.Seq:
				early = append(early, some[i])
			}
			return nil
		}); err != nil {
		return nil, err
	}
	for n, i := range some {
		if !found[n] {
			early = append(early, i) // nothing of the conversation is archived
		}
	}
	for _, i := range past {
		if moved[i].Seq, err = archivedIn(ctx, tx, moved[i]); err != nil {
			return nil, err
		}
		moved[i].Epoch = currentEpoch
	}
	_, err = store.Exec(ctx, tx, `INSERT INTO device_positions (app, username, resource, conversation_id, seq)
		SELECT v.app, v.username, v.resource, c.id, CASE WHEN c.newest < x.seq THEN c.newest ELSE x.seq END
		FROM `+positionsTable(len(moved))+`
		JOIN devices v ON v.app = x.app AND v.username = x.username AND v.resource = x.resource
		JOIN (`+newestSeqs+`) c ON c.app = x.app AND c.name = x.conversation
		WHERE c.newest > 0 AND x.seq > 0 AND (x.epoch = -1 OR x.epoch = COALESCE((SELECT l.epoch FROM log_positions l WHERE l.partition_no = x.part), 0))
		ORDER BY x.i
		ON CONFLICT (app, username, resource, conversation_id) DO UPDATE SET seq = excluded.seq WHERE device_positions.seq < excluded.seq`, positionArgs(moved)...)
	return early, err
}

// currentEpoch is the epoch of a position that is right in any.
const currentEpoch = -1

// positionsTable is SQL for n positions as a table x; positionArgs are its
// parameters.
func positionsTable(n int) string {
	var b strings.Builder
	b.WriteString(`(SELECT t.column1 AS i, t.column2 AS app, t.column3 AS username, t.column4 AS resource, t.column5 AS conversation,
		t.column6 AS seq, t.column7 AS epoch, t.column8 AS part FROM (VALUES `)
	for i := range n {
		if i > 0 {
			b.WriteString(`, `)
		}
		b.WriteString(`(`)
		for j, kind := range positionColumns {
			if j > 0 {
				b.WriteString(`, `)
			}
			fmt.Fprintf(&b, `CAST($%d AS %s)`, i*len(positionColumns)+j+1, kind)
		}
		b.WriteString(`)`)
	}
	b.WriteString(`) t) x`)
	return b.String()
}

// positionColumns are the types of that table's columns.
var positionColumns = [...]string{"BIGINT", "BIGINT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT", "BIGINT"}

func positionArgs(all []Confirmed) []any {
	args := make([]any, 0, len(positionColumns)*len(all))
	for n, p := range all {
		args = append(args, n, p.App, p.User, p.Resource, p.Conversation, p.Seq, p.Epoch, p.Partition)
	}
	return args
}

// archivedIn returns the last seq up to a position whose entry was archived in
// the position's epoch or an earlier one; 0 if there is none.
func archivedIn(ctx context.Context, tx *sql.Tx, p Confirmed) (found int64, err error) {
	const page = 64
	for next := p.Seq; next > 0 && found == 0; {
		through := next
		next = 0
		err := store.Each(ctx, tx, `SELECT m.seq, m.data FROM conversations c JOIN messages m ON m.app = c.app AND m.conversation_id = c.id
			WHERE c.app = $1 AND c.name = $2 AND m.seq <= $3 ORDER BY m.seq DESC LIMIT $4`,
			[]any{p.App, p.Conversation, through, page}, func(row store.Scanner) error {
				var seq int64
				var data []byte
				if err := row.Scan(&seq, &data); err != nil {
					return err
				}
				var entry busv1.Delivery
				if found == 0 && proto.Unmarshal(data, &entry) == nil && bus.LogEpoch(entry.GetLogPlace()) <= p.Epoch {
					found = seq
				}
				next = seq - 1
				return nil
			})
		if err != nil {
			return 0, err
		}
	}
	return found, nil
}

// newestSeqs is SQL for the conversations with the seq that each has given
// out last.
const newestSeqs = `SELECT x.app, x.id, x.name, COALESCE((SELECT MAX(m.seq) FROM messages m WHERE m.app = x.app AND m.conversation_id = x.id), x.last_seq) AS newest FROM conversations x`
