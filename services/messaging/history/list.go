package history

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/entrytype"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// List reads what others may list of a conversation after a seq, oldest first.
func (a *Archive) List(ctx context.Context, c *Conversation, after int64, limit int32) ([]*busv1.Delivery, error) {
	var out []*busv1.Delivery
	err := store.Each(ctx, a.db.Read(), `SELECT seq, data FROM messages WHERE app = $1 AND conversation_id = $2 AND seq > $3 AND `+entrytype.SQLIsListed("type")+` ORDER BY seq LIMIT $4`,
		[]any{c.App, c.id, after, limit}, func(row store.Scanner) error {
			var seq int64
			var data []byte
			if err := row.Scan(&seq, &data); err != nil {
				return err
			}
			d := &busv1.Delivery{}
			if err := proto.Unmarshal(data, d); err != nil {
				return errs.Internal(err)
			}
			d.Seq = seq
			out = append(out, d)
			return nil
		})
	return out, err
}
