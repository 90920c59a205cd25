package history

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/idgen"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// Devices keeps how far each device of each user has confirmed each
// conversation. A device without a position in a conversation has confirmed
// nothing of it.
type Devices struct {
	db  *store.DB
	now func() time.Time
}

// NewDevices returns the devices of a database whose schema is there.
func NewDevices(db *store.DB, now func() time.Time) *Devices { return &Devices{db: db, now: now} }

// maxDevices bounds the devices remembered of a user; the one seen longest ago
// is forgotten first, and starts like a new one should it come back.
const maxDevices = 16

// MaxQueues bounds the conversations offered at once; a device that has more
// unread gets the rest when it asks again.
const MaxQueues = 500

// seenPrecision spares a write at each login of a device that comes and goes.
const seenPrecision = 10 * time.Minute

// Open registers a device at its first login, which was at since, Unix
// milliseconds, or does not matter if that is 0. Its positions are those that the
// user's other devices have confirmed, once and for all: were they looked up
// later, what another device confirms first would be lost to this one. For the
// same reason they are not behind what was sent since the login: with a slow
// database another device may have confirmed that by now.
func (d *Devices) Open(ctx context.Context, app int64, user ident.UserID, resource string, since int64) error {
	newest := int64(math.MaxInt64)
	if since > 0 {
		newest = idgen.FirstAt(time.UnixMilli(since))
	}
	now := d.now().UnixMilli()
	var seen int64
	found, err := store.Row(ctx, d.db.Read(), `SELECT seen FROM devices WHERE app = $1 AND username = $2 AND resource = $3`, []any{app, user, resource}, &seen)
	if err != nil || found && now-seen < seenPrecision.Milliseconds() {
		return err
	}
	return d.db.Write(ctx, func(tx *sql.Tx) error {
		n, err := store.Exec(ctx, tx, `UPDATE devices SET seen = $1 WHERE app = $2 AND username = $3 AND resource = $4`, now, app, user, resource)
		if err != nil || n == 1 {
			return err
		}
		if _, err := store.Exec(ctx, tx, `INSERT INTO device_positions (app, username, resource, conversation_id, seq)
			SELECT $1, $2, $3, p.conversation_id, COALESCE(
				(SELECT m.seq FROM messages m WHERE m.app = $4 AND m.conversation_id = p.conversation_id AND m.seq <= p.seq AND m.id < $5 ORDER BY m.seq DESC LIMIT 1),
				(SELECT MIN(m.seq) - 1 FROM messages m WHERE m.app = $6 AND m.conversation_id = p.conversation_id AND m.seq <= p.seq),
				p.seq)
			FROM (SELECT conversation_id, MAX(seq) AS seq FROM device_positions WHERE app = $7 AND username = $8 GROUP BY conversation_id) p`,
			app, user, resource, app, newest, app, app, user); err != nil {
			return err
		}
		if _, err := store.Exec(ctx, tx, `INSERT INTO devices (app, username, resource, seen) VALUES ($1, $2, $3, $4)`, app, user, resource, now); err != nil {
			return err
		}
		return forgetOldest(ctx, tx, app, user)
	})
}

func forgetOldest(ctx context.Context, tx *sql.Tx, app int64, user ident.UserID) error {
	all, err := store.Column[string](ctx, tx, `SELECT resource FROM devices WHERE app = $1 AND username = $2 ORDER BY seen DESC, resource`, app, user)
	if err != nil {
		return err
	}
	for _, r := range all[min(maxDevices, len(all)):] {
		for _, table := range []string{"devices", "device_positions"} {
			if _, err := store.Exec(ctx, tx, `DELETE FROM `+table+` WHERE app = $1 AND username = $2 AND resource = $3`, app, user, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// visible is the SQL condition that a user sees an entry: it is for later too,
// and not the user's own unless copies go to the sender's devices. Its
// parameter is the user.
func visible(flags, sender, user string) string {
	return `(` + flags + ` & 1) = 0 AND (` + sender + ` <> ` + user + ` OR (` + flags + ` & 2) <> 0)`
}

// Unread lists the conversations that hold something for a device, MaxQueues of
// them at most.
func (d *Devices) Unread(ctx context.Context, app int64, user ident.UserID, resource string) ([]*messagingv1.DeviceQueue, error) {
	var out []*messagingv1.DeviceQueue
	err := store.Each(ctx, d.db.Read(), `SELECT c.name, c.kind, b.peer, COALESCE(p.seq, b.visible_from),
			(SELECT MAX(m.seq) FROM messages m WHERE m.app = b.app AND m.conversation_id = b.conversation_id)
		FROM conversation_members b
		JOIN conversations c ON c.id = b.conversation_id
		LEFT JOIN device_positions p ON p.app = b.app AND p.username = b.username AND p.resource = $1 AND p.conversation_id = b.conversation_id
		WHERE b.app = $2 AND b.username = $3
		AND EXISTS (SELECT 1 FROM messages m WHERE m.app = b.app AND m.conversation_id = b.conversation_id AND m.seq > COALESCE(p.seq, b.visible_from) AND m.seq > b.visible_from
			AND `+visible("m.flags", "m.sender", "b.username")+`)
		LIMIT $4`, []any{resource, app, user, MaxQueues}, func(row store.Scanner) error {
		q := &messagingv1.DeviceQueue{}
		var kind int32
		var last sql.NullInt64
		if err := row.Scan(&q.Conversation, &kind, &q.Peer, &q.ConfirmedSeq, &last); err != nil {
			return err
		}
		q.Kind, q.LastSeq = busv1.Kind(kind), last.Int64
		out = append(out, q)
		return nil
	})
	return out, err
}

// Queues reads where a device stands in some conversations, whether or not they
// hold anything new. Those that the user is not in are left out.
func (d *Devices) Queues(ctx context.Context, app int64, user ident.UserID, resource string, conversations []ident.ConversationID) ([]*messagingv1.DeviceQueue, error) {
	out := make([]*messagingv1.DeviceQueue, 0, len(conversations))
	for _, name := range conversations {
		q := &messagingv1.DeviceQueue{Conversation: string(name)}
		var kind int32
		var last sql.NullInt64
		found, err := store.Row(ctx, d.db.Read(), `SELECT c.kind, b.peer, COALESCE(p.seq, b.visible_from),
				(SELECT MAX(m.seq) FROM messages m WHERE m.app = b.app AND m.conversation_id = b.conversation_id)
			FROM conversations c
			JOIN conversation_members b ON b.app = c.app AND b.username = $1 AND b.conversation_id = c.id
			LEFT JOIN device_positions p ON p.app = b.app AND p.username = b.username AND p.resource = $2 AND p.conversation_id = b.conversation_id
			WHERE c.app = $3 AND c.name = $4`, []any{user, resource, app, name}, &kind, &q.Peer, &q.ConfirmedSeq, &last)
		if err != nil {
			return nil, err
		}
		if found {
			q.Kind, q.LastSeq = busv1.Kind(kind), last.Int64
			out = append(out, q)
		}
	}
	return out, nil
}

// Page is a part of a conversation as a device may see it.
type Page struct {
	Entries []*busv1.Delivery
	// Through is the seq up to which the page goes, whether or not the device
	// may see the last entries; Last is the conversation's last one.
	Through, Last int64
}

// Pull reads what a device may see of a conversation after a seq, limit entries
// at most. A device without a name sees what its user sent as well.
func (d *Devices) Pull(ctx context.Context, app int64, user ident.UserID, resource string, conversation ident.ConversationID, after int64, limit int32) (Page, error) {
	page := Page{Through: after}
	read := int32(0)
	err := store.Each(ctx, d.db.Read(), `SELECT m.seq, m.flags, m.sender, m.data
		FROM conversations c JOIN conversation_members b ON b.app = c.app AND b.username = $1 AND b.conversation_id = c.id
		JOIN messages m ON m.app = c.app AND m.conversation_id = c.id
		WHERE c.app = $2 AND c.name = $3 AND m.seq > $4 AND m.seq > b.visible_from ORDER BY m.seq LIMIT $5`,
		[]any{user, app, conversation, after, limit}, func(row store.Scanner) error {
			var flags Flags
			var sender ident.UserID
			var data []byte
			if err := row.Scan(&page.Through, &flags, &sender, &data); err != nil {
				return err
			}
			read++
			if flags&OnlineOnly != 0 || (sender == user && flags&SyncSender == 0) {
				return nil
			}
			e := &busv1.Delivery{}
			if err := proto.Unmarshal(data, e); err != nil {
				return errs.Internal(err)
			}
			if e.GetFrom() == string(user) && e.GetFromResource() == resource && resource != "" {
				return nil
			}
			page.Entries = append(page.Entries, e)
			return nil
		})
	if err != nil {
		return Page{}, err
	}
	page.Last = page.Through
	if read == limit {
		// There may be more; tell how far it goes.
		var last sql.NullInt64
		if _, err := store.Row(ctx, d.db.Read(), `SELECT MAX(m.seq) FROM conversations c JOIN messages m ON m.app = c.app AND m.conversation_id = c.id
			WHERE c.app = $1 AND c.name = $2`, []any{app, conversation}, &last); err != nil {
			return Page{}, err
		}
		page.Last = max(page.Through, last.Int64)
	}
	return page, nil
}

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
		// Parsing these costs far more than running them, and there are thousands.
		// Nearly all positions are of entries that are archived.
		whole, err := tx.PrepareContext(ctx, `INSERT INTO device_positions (app, username, resource, conversation_id, seq)
			SELECT v.app, v.username, v.resource, c.id, CAST($1 AS BIGINT)
			FROM devices v JOIN conversations c ON c.app = v.app AND c.name = $2
			WHERE v.app = $3 AND v.username = $4 AND v.resource = $5
			AND EXISTS (SELECT 1 FROM messages m WHERE m.app = c.app AND m.conversation_id = c.id AND m.seq >= CAST($6 AS BIGINT))
			AND `+epochOfPartition+`$7) = CAST($8 AS BIGINT)
			ON CONFLICT (app, username, resource, conversation_id) DO UPDATE SET seq = excluded.seq WHERE device_positions.seq < excluded.seq`)
		if err != nil {
			return err
		}
		defer func() { _ = whole.Close() }()
		move, err := tx.PrepareContext(ctx, `INSERT INTO device_positions (app, username, resource, conversation_id, seq)
			SELECT v.app, v.username, v.resource, c.id, CASE WHEN c.newest < CAST($1 AS BIGINT) THEN c.newest ELSE CAST($2 AS BIGINT) END
			FROM devices v JOIN (`+newestSeqs+`) c ON c.app = v.app AND c.name = $3
			WHERE v.app = $4 AND v.username = $5 AND v.resource = $6 AND c.newest > 0 AND `+epochOfPartition+`$7) = CAST($8 AS BIGINT)
			ON CONFLICT (app, username, resource, conversation_id) DO UPDATE SET seq = excluded.seq WHERE device_positions.seq < excluded.seq
			RETURNING seq`)
		if err != nil {
			return err
		}
		defer func() { _ = move.Close() }()
		moveTo := func(p Confirmed) (at int64, err error) {
			err = move.QueryRowContext(ctx, p.Seq, p.Seq, p.Conversation, p.App, p.User, p.Resource, p.Partition, p.Epoch).Scan(&at)
			if errors.Is(err, sql.ErrNoRows) {
				return 0, nil
			}
			return at, err
		}
		for _, i := range inOrder {
			p := all[i]
			r, err := whole.ExecContext(ctx, p.Seq, p.Conversation, p.App, p.User, p.Resource, p.Seq, p.Partition, p.Epoch)
			if err != nil {
				return err
			}
			n, err := r.RowsAffected()
			if err != nil {
				return err
			}
			if n > 0 {
				continue
			}
			at, err := moveTo(p)
			if err != nil {
				return err
			}
			if at >= p.Seq {
				continue
			}
			var archived int
			var epoch int64
			if _, err := store.Row(ctx, tx, `SELECT `+epochOfPartition+`$1), COUNT(*) FROM (`+newestSeqs+`) c WHERE c.app = $2 AND c.name = $3 AND c.newest >= CAST($4 AS BIGINT)`,
				[]any{p.Partition, p.App, p.Conversation, p.Seq}, &epoch, &archived); err != nil {
				return err
			}
			switch {
			case epoch != p.Epoch:
				if p.Seq, err = archivedIn(ctx, tx, p); err != nil {
					return err
				}
				p.Epoch = epoch
				if p.Seq == 0 {
					continue
				}
			case archived == 0:
				early = append(early, i)
				continue
			}
			// The entry may have been archived between the two.
			if _, err := moveTo(p); err != nil {
				return err
			}
		}
		return nil
	})
	return early, err
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

// epochOfPartition is the beginning of SQL for the epoch of a partition, whose
// number and a closing parenthesis follow.
const epochOfPartition = `(SELECT COALESCE(MAX(l.epoch), 0) FROM log_positions l WHERE l.partition_no = `

// newestSeqs is SQL for the conversations with the seq that each has given
// out last.
const newestSeqs = `SELECT x.app, x.id, x.name, COALESCE((SELECT MAX(m.seq) FROM messages m WHERE m.app = x.app AND m.conversation_id = x.id), x.last_seq) AS newest FROM conversations x`
