package history

import (
	"database/sql"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/bus"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/testkit"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// TestRowsOfBeforeTheNamesAreRead fills the schema as it was before its tables
// and columns got their names, and reads everything after the migration.
func TestRowsOfBeforeTheNamesAreRead(t *testing.T) {
	before := fstest.MapFS{}
	for _, dialect := range []string{"sqlite", "postgres"} {
		files, err := migrationFiles.ReadDir("migrations/" + dialect)
		require.NoError(t, err)
		for _, f := range files {
			if strings.HasPrefix(f.Name(), "00004") {
				break
			}
			data, err := migrationFiles.ReadFile("migrations/" + dialect + "/" + f.Name())
			require.NoError(t, err)
			before[dialect+"/"+f.Name()] = &fstest.MapFile{Data: data}
		}
	}
	testkit.EachDatabase(t, "messaging", before, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		place := bus.LogPlace(2, 77)
		data, err := proto.Marshal(&busv1.Delivery{Id: 5, Seq: 4, LogPlace: place})
		require.NoError(t, err)
		require.NoError(t, db.Write(ctx, func(tx *sql.Tx) error {
			for _, q := range []string{
				`INSERT INTO conversation (id, app, name, kind, floor) VALUES (9, 1, 'lena~omar', 1, 2)`,
				`INSERT INTO member (app, username, conv, peer, since) VALUES (1, 'omar', 9, 'lena', 3)`,
				`INSERT INTO device (app, username, resource, seen) VALUES (1, 'omar', 'web', 10)`,
				`INSERT INTO device_position (app, username, resource, conv, seq) VALUES (1, 'omar', 'web', 9, 3)`,
				`INSERT INTO log_position (partition_no, stream_seq, epoch, created, fingerprint) VALUES (0, 77, 2, 8, 6)`,
			} {
				if _, err := store.Exec(ctx, tx, q); err != nil {
					return err
				}
			}
			for seq := 3; seq <= 4; seq++ {
				if _, err := store.Exec(ctx, tx, `INSERT INTO message (id, app, conv, seq, type, flags, sender, data) VALUES ($1, 1, 9, $2, 1, 0, 'lena', $3)`,
					seq+1, seq, data); err != nil {
					return err
				}
			}
			return nil
		}))

		a := newTestArchive(t, db)
		c, err := a.Find(ctx, 1, "lena~omar", 0)
		require.NoError(t, err)
		require.Equal(t, &Conversation{App: 1, Name: "lena~omar", Kind: busv1.Kind_KIND_USER, id: 9, LastSeq: 4, LastPlace: place}, c)
		at, err := a.Position(ctx, 0)
		require.NoError(t, err)
		require.Equal(t, Position{Offset: 77, Epoch: 2, Created: 8, Mark: 6}, at)
		d := NewDevices(db, time.Now)
		queues, err := d.Unread(ctx, 1, "omar", "web")
		require.NoError(t, err)
		require.Len(t, queues, 1)
		require.EqualValues(t, 3, queues[0].GetConfirmedSeq())
		require.EqualValues(t, 4, queues[0].GetLastSeq())
		page, err := d.Pull(ctx, 1, "omar", "web", "lena~omar", 0, 10)
		require.NoError(t, err)
		require.Len(t, page.Entries, 1, "what was for a former user is not shown")
		n, err := d.OfflineCount(ctx, 1, "omar")
		require.NoError(t, err)
		require.EqualValues(t, 1, n)

		// The new names are of the same tables, keys included.
		err = db.Write(ctx, func(tx *sql.Tx) error {
			_, err := store.Exec(ctx, tx, `INSERT INTO messages (id, app, conversation_id, seq, type, flags, sender, data) VALUES (90, 1, 9, 4, 1, 0, 'lena', $1)`, data)
			return err
		})
		require.Error(t, err, "a seq is given once")
	})
}
