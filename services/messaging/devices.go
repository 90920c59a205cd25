package messaging

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/names"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
)

// deviceStore keeps how far each device of each user has confirmed each
// conversation. A device without a position in a conversation has confirmed
// nothing of it.
type deviceStore struct {
	db  *store.DB
	now func() time.Time
}

// maxDevices bounds the devices remembered of a user; the one seen longest ago
// is forgotten first, and starts like a new one should it come back.
const maxDevices = 16

// maxQueues bounds the conversations offered at once; a device that has more
// unread gets the rest when it asks again.
const maxQueues = 500

// seenPrecision spares a write at each login of a device that comes and goes.
const seenPrecision = 10 * time.Minute

// open registers a device at its first login. Its positions are those that the
// user's other devices have confirmed at this moment, once and for all: were
// they looked up later, what another device confirms first would be lost to
// this one.
func (d *deviceStore) open(ctx context.Context, app int64, user, resource string) error {
	now := d.now().UnixMilli()
	var seen int64
	err := d.db.Read().QueryRowContext(ctx, `SELECT seen FROM device WHERE app = $1 AND username = $2 AND resource = $3`, app, user, resource).Scan(&seen)
	if err == nil && now-seen < seenPrecision.Milliseconds() {
		return nil
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return store.Translate(err)
	}
	return d.db.Write(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, `UPDATE device SET seen = $1 WHERE app = $2 AND username = $3 AND resource = $4`, now, app, user, resource)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n == 1 {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO device_position (app, username, resource, conv, seq)
			SELECT $1, $2, $3, conv, MAX(seq) FROM device_position WHERE app = $4 AND username = $5 GROUP BY conv`,
			app, user, resource, app, user); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO device (app, username, resource, seen) VALUES ($1, $2, $3, $4)`, app, user, resource, now); err != nil {
			return err
		}
		return d.forgetOldest(ctx, tx, app, user)
	})
}

func (d *deviceStore) forgetOldest(ctx context.Context, tx *sql.Tx, app int64, user string) error {
	rows, err := tx.QueryContext(ctx, `SELECT resource FROM device WHERE app = $1 AND username = $2 ORDER BY seen DESC, resource`, app, user)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var r string
		if err := rows.Scan(&r); err != nil {
			return err
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, r := range all[min(maxDevices, len(all)):] {
		for _, table := range []string{"device", "device_position"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE app = $1 AND username = $2 AND resource = $3`, app, user, r); err != nil {
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

// unread lists the conversations that hold something for a device.
func (d *deviceStore) unread(ctx context.Context, app int64, user, resource string) ([]*messagingv1.DeviceQueue, error) {
	rows, err := d.db.Read().QueryContext(ctx, `SELECT c.name, c.kind, b.peer, COALESCE(p.seq, b.since),
			(SELECT MAX(m.seq) FROM message m WHERE m.app = b.app AND m.conv = b.conv)
		FROM member b
		JOIN conversation c ON c.id = b.conv
		LEFT JOIN device_position p ON p.app = b.app AND p.username = b.username AND p.resource = $1 AND p.conv = b.conv
		WHERE b.app = $2 AND b.username = $3
		AND EXISTS (SELECT 1 FROM message m WHERE m.app = b.app AND m.conv = b.conv AND m.seq > COALESCE(p.seq, b.since) AND m.seq > b.since
			AND `+visible("m.flags", "m.sender", "b.username")+`)
		LIMIT $4`, resource, app, user, maxQueues)
	if err != nil {
		return nil, store.Translate(err)
	}
	defer func() { _ = rows.Close() }()
	var out []*messagingv1.DeviceQueue
	for rows.Next() {
		q := &messagingv1.DeviceQueue{}
		var kind int32
		var last sql.NullInt64
		if err := rows.Scan(&q.Conversation, &kind, &q.Peer, &q.ConfirmedSeq, &last); err != nil {
			return nil, store.Translate(err)
		}
		q.Kind, q.LastSeq = busv1.Kind(kind), last.Int64
		out = append(out, q)
	}
	return out, store.Translate(rows.Err())
}

// queues reads where a device stands in some conversations, whether or not they
// hold anything new. Those that the user is not in are left out.
func (d *deviceStore) queues(ctx context.Context, app int64, user, resource string, conversations []string) ([]*messagingv1.DeviceQueue, error) {
	out := make([]*messagingv1.DeviceQueue, 0, len(conversations))
	for _, name := range conversations {
		q := &messagingv1.DeviceQueue{Conversation: name}
		var kind int32
		var last sql.NullInt64
		err := d.db.Read().QueryRowContext(ctx, `SELECT c.kind, b.peer, COALESCE(p.seq, b.since),
				(SELECT MAX(m.seq) FROM message m WHERE m.app = b.app AND m.conv = b.conv)
			FROM conversation c
			JOIN member b ON b.app = c.app AND b.username = $1 AND b.conv = c.id
			LEFT JOIN device_position p ON p.app = b.app AND p.username = b.username AND p.resource = $2 AND p.conv = b.conv
			WHERE c.app = $3 AND c.name = $4`, user, resource, app, name).Scan(&kind, &q.Peer, &q.ConfirmedSeq, &last)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, store.Translate(err)
		}
		q.Kind, q.LastSeq = busv1.Kind(kind), last.Int64
		out = append(out, q)
	}
	return out, nil
}

// pull reads what a device may see of a conversation after a place.
func (d *deviceStore) pull(ctx context.Context, app int64, req *messagingv1.PullConversationRequest) (*messagingv1.PullConversationResponse, error) {
	limit := req.GetLimit()
	if limit == 0 {
		limit = 50
	}
	if limit < 1 || limit > 200 || req.GetAfterSeq() < 0 {
		return nil, errs.Invalid(errs.MessageInvalidRequest)
	}
	user := names.FoldUser(req.GetUser())
	rows, err := d.db.Read().QueryContext(ctx, `SELECT m.seq, m.flags, m.sender, m.data
		FROM conversation c JOIN member b ON b.app = c.app AND b.username = $1 AND b.conv = c.id
		JOIN message m ON m.app = c.app AND m.conv = c.id
		WHERE c.app = $2 AND c.name = $3 AND m.seq > $4 AND m.seq > b.since ORDER BY m.seq LIMIT $5`, user, app, req.GetConversation(), req.GetAfterSeq(), limit)
	if err != nil {
		return nil, store.Translate(err)
	}
	defer func() { _ = rows.Close() }()
	resp := &messagingv1.PullConversationResponse{ThroughSeq: req.GetAfterSeq()}
	read := int32(0)
	for rows.Next() {
		var flags int
		var sender string
		var data []byte
		if err := rows.Scan(&resp.ThroughSeq, &flags, &sender, &data); err != nil {
			return nil, store.Translate(err)
		}
		read++
		if flags&flagOnlineOnly != 0 || (sender == user && flags&flagSyncSender == 0) {
			continue
		}
		e := &busv1.Delivery{}
		if err := proto.Unmarshal(data, e); err != nil {
			return nil, errs.Internal(err)
		}
		if e.GetFrom() == user && e.GetFromResource() == req.GetResource() && req.GetResource() != "" {
			continue
		}
		resp.Entries = append(resp.Entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, store.Translate(err)
	}
	resp.LastSeq = resp.ThroughSeq
	if read == limit {
		// There may be more; tell how far it goes.
		var last sql.NullInt64
		if err := d.db.Read().QueryRowContext(ctx, `SELECT MAX(m.seq) FROM conversation c JOIN message m ON m.app = c.app AND m.conv = c.id
			WHERE c.app = $1 AND c.name = $2`, app, req.GetConversation()).Scan(&last); err != nil {
			return nil, store.Translate(err)
		}
		resp.LastSeq = max(resp.ThroughSeq, last.Int64)
	}
	return resp, nil
}

// position is a device's place in a conversation.
type position struct {
	app                          int64
	user, resource, conversation string
	seq                          int64
}

// confirm moves positions forward, all in one transaction, and returns the
// indexes of those that are early: a push runs ahead of the archive, and so may
// what a device confirms. A position is stored only as far as the archive holds
// the conversation, for an entry that is pushed and never archived could give its
// place to another. Positions of devices that do not exist are left out.
func (d *deviceStore) confirm(ctx context.Context, all []position) (early []int, err error) {
	err = d.db.Write(ctx, func(tx *sql.Tx) error {
		early = nil
		// Parsing these costs far more than running them, and there are thousands.
		// Nearly all positions are of entries that are archived.
		whole, err := tx.PrepareContext(ctx, `INSERT INTO device_position (app, username, resource, conv, seq)
			SELECT v.app, v.username, v.resource, c.id, CAST($1 AS BIGINT)
			FROM device v JOIN conversation c ON c.app = v.app AND c.name = $2
			WHERE v.app = $3 AND v.username = $4 AND v.resource = $5
			AND EXISTS (SELECT 1 FROM message m WHERE m.app = c.app AND m.conv = c.id AND m.seq >= CAST($6 AS BIGINT))
			ON CONFLICT (app, username, resource, conv) DO UPDATE SET seq = excluded.seq WHERE device_position.seq < excluded.seq`)
		if err != nil {
			return err
		}
		defer func() { _ = whole.Close() }()
		move, err := tx.PrepareContext(ctx, `INSERT INTO device_position (app, username, resource, conv, seq)
			SELECT v.app, v.username, v.resource, c.id, CASE WHEN c.newest < CAST($1 AS BIGINT) THEN c.newest ELSE CAST($2 AS BIGINT) END
			FROM device v JOIN (`+newestPlaces+`) c ON c.app = v.app AND c.name = $3
			WHERE v.app = $4 AND v.username = $5 AND v.resource = $6 AND c.newest > 0
			ON CONFLICT (app, username, resource, conv) DO UPDATE SET seq = excluded.seq WHERE device_position.seq < excluded.seq
			RETURNING seq`)
		if err != nil {
			return err
		}
		defer func() { _ = move.Close() }()
		moveTo := func(p position) (at int64, err error) {
			err = move.QueryRowContext(ctx, p.seq, p.seq, p.conversation, p.app, p.user, p.resource).Scan(&at)
			if errors.Is(err, sql.ErrNoRows) {
				return 0, nil
			}
			return at, err
		}
		for i, p := range all {
			r, err := whole.ExecContext(ctx, p.seq, p.conversation, p.app, p.user, p.resource, p.seq)
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
			if at >= p.seq {
				continue
			}
			var archived int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM (`+newestPlaces+`) c WHERE c.app = $1 AND c.name = $2 AND c.newest >= CAST($3 AS BIGINT)`,
				p.app, p.conversation, p.seq).Scan(&archived); err != nil {
				return err
			}
			if archived == 0 {
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

// newestPlaces is SQL for the conversations with the place that each has given
// out last.
const newestPlaces = `SELECT x.app, x.id, x.name, COALESCE((SELECT MAX(m.seq) FROM message m WHERE m.app = x.app AND m.conv = x.id), x.floor) AS newest FROM conversation x`

// waiting are the messages of user $2 of app $1 that none of the user's devices
// has confirmed; $3 is the first type that is no message.
const waiting = ` FROM (
			SELECT b.app, b.conv, b.username, b.since, COALESCE((SELECT MAX(p.seq) FROM device_position p
				WHERE p.app = b.app AND p.username = b.username AND p.conv = b.conv), 0) AS seen
			FROM member b WHERE b.app = $1 AND b.username = $2) q
		JOIN message m ON m.app = q.app AND m.conv = q.conv AND m.seq > q.seen AND m.seq > q.since
		WHERE m.type < $3 AND (m.flags & 1) = 0 AND m.sender <> q.username`

// offlineCount counts the messages that no device of the user has confirmed.
func (d *deviceStore) offlineCount(ctx context.Context, app int64, user string) (int64, error) {
	var n int64
	err := d.db.Read().QueryRowContext(ctx, `SELECT COUNT(*)`+waiting, app, user, int(busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK)).Scan(&n)
	return n, store.Translate(err)
}

// offlineHolds reports whether a message is one of those.
func (d *deviceStore) offlineHolds(ctx context.Context, app int64, user string, id int64) (bool, error) {
	var n int64
	err := d.db.Read().QueryRowContext(ctx, `SELECT COUNT(*)`+waiting+` AND m.id = $4`, app, user, int(busv1.EntryType_ENTRY_TYPE_DELIVERY_ACK), id).Scan(&n)
	return n > 0, store.Translate(err)
}
