package account

import (
	"context"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// maxLookup bounds the users of one look-up: the targets of one message.
const maxLookup = 600

// LookupRecipients tells a sending service what it needs to know of users.
func (s *Service) LookupRecipients(ctx context.Context, req *accountv1.LookupRecipientsRequest) (*accountv1.LookupRecipientsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if len(req.GetUsernames()) > maxLookup {
		return nil, invalid()
	}
	resp := &accountv1.LookupRecipientsResponse{Recipients: make([]*accountv1.Recipient, len(req.GetUsernames()))}
	if len(req.GetUsernames()) == 0 {
		return resp, nil
	}
	args := []any{app.Number}
	known := make(map[ident.UserID]*accountv1.Recipient, len(req.GetUsernames()))
	for i, name := range req.GetUsernames() {
		id := ident.FoldUser(name)
		r, ok := known[id]
		if !ok {
			r = &accountv1.Recipient{}
			known[id] = r
			if id.Valid() {
				args = append(args, id)
			}
		}
		resp.Recipients[i] = r
	}
	if len(args) == 1 {
		return resp, nil // no name that a user could have
	}
	args = rounded(args)
	in := store.In(2, len(args)-1)
	for _, read := range []struct {
		query string
		row   func(store.Scanner) error
	}{
		{`SELECT username, activated FROM users WHERE app = $1 AND username IN (` + in + `)`, func(row store.Scanner) error {
			var id ident.UserID
			var activated bool
			if err := row.Scan(&id, &activated); err != nil {
				return err
			}
			known[id].Exists, known[id].Deactivated = true, !activated
			return nil
		}},
		{`SELECT owner, blocked FROM blocks WHERE app = $1 AND owner IN (` + in + `)`, func(row store.Scanner) error {
			var id ident.UserID
			var blocked string
			if err := row.Scan(&id, &blocked); err != nil {
				return err
			}
			known[id].Blocked = append(known[id].Blocked, blocked)
			return nil
		}},
		{`SELECT username, kind, until FROM mutes WHERE app = $1 AND username IN (` + in + `)`, func(row store.Scanner) error {
			var id ident.UserID
			var kind muteKind
			var until int64
			if err := row.Scan(&id, &kind, &until); err != nil {
				return err
			}
			switch kind {
			case muteChat:
				known[id].MutedChat = until
			case muteGroupChat:
				known[id].MutedGroupchat = until
			case muteChatRoom:
				known[id].MutedChatroom = until
			}
			return nil
		}},
	} {
		if err := store.Each(ctx, s.db.Read(), read.query, args, read.row); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// maxRounded bounds what rounded fills up: the texts of longer lists are not
// kept prepared, whatever their length.
const maxRounded = 128

// rounded repeats the first user behind the app until their number is a power
// of two, so that databases see few texts and keep them prepared.
func rounded(args []any) []any {
	for n := len(args) - 1; n < maxRounded && n&(n-1) != 0; n++ {
		args = append(args, args[1])
	}
	return args
}
