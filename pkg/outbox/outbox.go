// Package outbox publishes what a service has to say to NATS without ever
// parting it from the rows it is about: the message is a row of the same
// transaction, and a relay publishes it after the commit. A crash in between
// delays the message to the next start; a crash after publishing repeats it,
// which the stream recognizes by its message ID.
//
// A service's schema needs the table outbox, whose text Schema gives.
package outbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
)

// Schema is the table that a service's migration must create. Its ids must
// never be given twice, not even after the table has run empty.
func Schema(d store.Dialect) string {
	id, blob := "INTEGER PRIMARY KEY AUTOINCREMENT", "BLOB"
	if d == store.Postgres {
		id, blob = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BYTEA"
	}
	return `CREATE TABLE outbox (
    id      ` + id + `,
    subject TEXT NOT NULL,
    data    ` + blob + ` NOT NULL,
    msg_id  TEXT NOT NULL,
    live    BOOLEAN NOT NULL
)`
}

// MaxDataBytes bounds a message; NATS servers take 1 MiB by default.
const MaxDataBytes = 512 << 10

// Message is what to publish.
type Message struct {
	Subject string
	Data    []byte
	// ID makes a repetition harmless within the stream's duplicate window; one
	// is made where it is empty.
	ID string
	// Live messages go to whoever listens at that moment; all others must be
	// taken by a stream.
	Live bool
}

// Add puts messages into the outbox. They are published in the order of Add
// within a transaction, and in the order of commits between transactions that
// wait for each other. Call Relay.Kick or Relay.Flush after the commit.
func Add(ctx context.Context, tx *sql.Tx, messages ...Message) error {
	for _, m := range messages {
		if len(m.Data) > MaxDataBytes {
			return errs.Internal(fmt.Errorf("outbox: message of %d bytes for %s", len(m.Data), m.Subject))
		}
		if m.ID == "" {
			var b [12]byte
			_, _ = rand.Read(b[:]) // never fails: the program ends instead
			m.ID = hex.EncodeToString(b[:])
		}
		if m.Data == nil {
			m.Data = []byte{}
		}
		_, err := store.Exec(ctx, tx, `INSERT INTO outbox (subject, data, msg_id, live) VALUES ($1, $2, $3, $4)`,
			m.Subject, m.Data, m.ID, m.Live)
		if err != nil {
			return err
		}
	}
	return nil
}
