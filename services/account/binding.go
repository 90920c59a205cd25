package account

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// maxBindings bounds the push tokens of a user; the oldest give way.
	maxBindings = 16
	// maxNicknames bounds the users of one call that sets nicknames.
	maxNicknames = 50
)

// binding is the push token of a device, as it is stored.
type binding struct {
	Device   string `json:"device_id"`
	Notifier string `json:"notifier_name"`
	Token    string `json:"device_token"`
}

func (b binding) proto() *accountv1.PushBinding {
	return &accountv1.PushBinding{DeviceId: b.Device, NotifierName: b.Notifier, DeviceToken: b.Token}
}

func decodeBindings(doc string) []binding {
	var all []binding
	_ = json.Unmarshal([]byte(doc), &all) // written by bind only; empty is none
	return all
}

func bindingsProto(all []binding) []*accountv1.PushBinding {
	out := make([]*accountv1.PushBinding, len(all))
	for i, b := range all {
		out[i] = b.proto()
	}
	return out
}

// with returns the bindings after one call: b comes first. Without a token it
// goes, without a notifier all of its device go.
func with(all []binding, b binding) []binding {
	all = slices.DeleteFunc(all, func(x binding) bool {
		return x.Device == b.Device && (b.Notifier == "" || x.Notifier == b.Notifier)
	})
	if b.Token != "" && b.Notifier != "" {
		all = slices.Insert(all, 0, b)
	}
	return all[:min(len(all), maxBindings)]
}

// bind enters a binding into u's, whose row the transaction has already changed
// and so holds. What the user entity shows by itself is the newest.
func bind(ctx context.Context, tx *sql.Tx, app int64, u *user, b binding) error {
	all := with(decodeBindings(u.pushInfo.String), b)
	doc, err := json.Marshal(all)
	if err != nil {
		return errs.Internal(err)
	}
	u.pushInfo = sql.NullString{String: string(doc), Valid: len(all) > 0}
	newest := binding{}
	if len(all) > 0 {
		newest = all[0]
	}
	orNull := func(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
	u.notifierName, u.deviceToken = orNull(newest.Notifier), orNull(newest.Token)
	_, err = store.Exec(ctx, tx, `UPDATE users SET push_info = $1, notifier_name = $2, device_token = $3, device_id = $4
		WHERE app = $5 AND username = $6`, u.pushInfo, u.notifierName, u.deviceToken, orNull(newest.Device), app, u.username)
	if err != nil {
		return fmt.Errorf("push bindings: %w", err)
	}
	return nil
}

// touch moves the time of a user's last change and returns the user, whose row
// stays held until the transaction ends.
func (s *Service) touch(ctx context.Context, tx *sql.Tx, app int64, id ident.UserID) (*user, error) {
	return readUser(ctx, tx, `UPDATE users SET modified = $1 WHERE app = $2 AND username = $3 RETURNING `+userColumns,
		s.now().UnixMilli(), app, id)
}

// SetPushBinding implements accountv1.PushServiceServer.
func (s *Service) SetPushBinding(ctx context.Context, req *accountv1.SetPushBindingRequest) (*accountv1.SetPushBindingResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	b := binding{Device: req.GetDeviceId(), Notifier: req.GetNotifierName(), Token: req.GetDeviceToken()}
	for field, text := range map[string]string{"device_id": b.Device, "notifier_name": b.Notifier, "device_token": b.Token} {
		if !fits(text, maxPushText) || field == "device_id" && text == "" {
			return nil, badParameter(field)
		}
	}
	id, err := s.findUserID(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		u, err := s.touch(ctx, tx, app.Number, id)
		if err != nil {
			return err
		}
		ev.changed(id, busv1.UserEvent_CHANGE_PUSH_SETTINGS)
		return bind(ctx, tx, app.Number, u, b)
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.SetPushBindingResponse{Bindings: []*accountv1.PushBinding{b.proto()}}, nil
}

// GetPushBindings implements accountv1.PushServiceServer.
func (s *Service) GetPushBindings(ctx context.Context, req *accountv1.GetPushBindingsRequest) (*accountv1.GetPushBindingsResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	u, err := findUser(ctx, s.db.Read(), app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	return &accountv1.GetPushBindingsResponse{Bindings: bindingsProto(decodeBindings(u.pushInfo.String))}, nil
}

// SetPushNicknames sets the nicknames of all the users or, if one does not
// exist or a nickname is too long, of none.
func (s *Service) SetPushNicknames(ctx context.Context, req *accountv1.SetPushNicknamesRequest) (*accountv1.SetPushNicknamesResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch n := len(req.GetNicknames()); {
	case n == 0:
		return nil, errs.Invalid("put user push nicknames illegal empty request body")
	case n > maxNicknames:
		return nil, errs.Invalid("put user push nicknames exceeds the limit")
	}
	type change struct {
		id       ident.UserID
		nickname string
	}
	changes := make([]change, len(req.GetNicknames()))
	for i, n := range req.GetNicknames() {
		switch {
		case utf8.RuneCountInString(n.GetPushNickname()) > maxNickname:
			return nil, errs.Invalidf("%.64s push nickname length exceeds the limit", n.GetUsername())
		case !fits(n.GetPushNickname(), maxNickname):
			return nil, invalid()
		}
		id, err := s.findUserID(ctx, app.Number, n.GetUsername())
		if err != nil {
			return nil, noProperty(err)
		}
		changes[i] = change{id, n.GetPushNickname()}
	}
	// Rows are taken in one order by all; of one user twice, the last counts.
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.id, b.id) })
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		for _, c := range changes {
			n, err := store.Exec(ctx, tx, `UPDATE users SET nickname = $1, modified = $2 WHERE app = $3 AND username = $4`,
				sql.NullString{String: c.nickname, Valid: c.nickname != ""}, s.now().UnixMilli(), app.Number, c.id)
			if err != nil {
				return fmt.Errorf("push nicknames: %w", err)
			}
			if n == 0 {
				return errs.UserRequired()
			}
			ev.changed(c.id, busv1.UserEvent_CHANGE_PUSH_SETTINGS)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.SetPushNicknamesResponse{Nicknames: req.GetNicknames()}, nil
}
