package account

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"unicode/utf8"

	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/quota"
	"github.com/chappe-im/chappe/pkg/store"
	"github.com/chappe-im/chappe/pkg/tier"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

// maxTargets bounds the users of one batch read.
const maxTargets = 100

// SetUserAttributes merges attributes into a user's. The user need not exist.
func (s *Service) SetUserAttributes(ctx context.Context, req *accountv1.SetUserAttributesRequest) (*accountv1.SetUserAttributesResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if len(req.GetAttributes()) == 0 || !ident.ValidUser(req.GetUsername()) {
		return nil, invalid()
	}
	for k, v := range req.GetAttributes() {
		if k == "" || !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, invalid()
		}
	}
	perUser := app.Tier.Size(tier.SizeUserAttributesPerUser)
	if sizeOf(req.GetAttributes()) > perUser {
		return nil, attributesTooLarge(perUser)
	}
	id, err := s.attributeOwner(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		// Reads the row and holds it until the end, so that the sums are exact.
		var doc string
		var before int64
		_, err := store.Row(ctx, tx, `INSERT INTO attributes (app, username, doc, bytes) VALUES ($1, $2, '{}', 0)
			ON CONFLICT (app, username) DO UPDATE SET bytes = attributes.bytes RETURNING doc, bytes`, []any{app.Number, id}, &doc, &before)
		if err != nil {
			return fmt.Errorf("read attributes: %w", err)
		}
		all, err := decodeAttributes(doc)
		if err != nil {
			return err
		}
		maps.Copy(all, req.GetAttributes())
		after := sizeOf(all)
		if after > perUser {
			return attributesTooLarge(perUser)
		}
		limit := sizeLimit(app.Tier, tier.SizeUserAttributesPerApp)
		err = quota.Add(ctx, tx, app.Number, tier.SizeUserAttributesPerApp, "", after-before, limit)
		switch {
		case errs.Is(err, errs.ReasonQuota):
			return metadataFull("total size of user metadata for this app exceeds the user defined limit, %dBytes", *limit)
		case err != nil:
			return err
		}
		encoded, err := json.Marshal(all)
		if err != nil {
			return errs.Internal(err)
		}
		_, err = store.Exec(ctx, tx, `UPDATE attributes SET doc = $1, bytes = $2 WHERE app = $3 AND username = $4`,
			string(encoded), after, app.Number, id)
		if err != nil {
			return fmt.Errorf("write attributes: %w", err)
		}
		ev.changed(id, busv1.UserEvent_CHANGE_ATTRIBUTES)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.SetUserAttributesResponse{Attributes: req.GetAttributes()}, nil
}

func attributesTooLarge(limit int64) error {
	return metadataFull("size of metadata for this single user exceeds the user defined limit, %dBytes", limit)
}

func metadataFull(format string, limit int64) error {
	return errs.New(codes.PermissionDenied, errs.ReasonMetadataFull, fmt.Sprintf(format, limit))
}

// sizeOf gives the bytes of all keys and values.
func sizeOf(attributes map[string]string) int64 {
	n := 0
	for k, v := range attributes {
		n += len(k) + len(v)
	}
	return int64(n)
}

// sizeLimit gives a size as the limit of a quota: nil if there is none.
func sizeLimit(t *tier.Compiled, name string) *int64 {
	n := t.Size(name)
	if n == tier.Unlimited {
		return nil
	}
	return &n
}

func decodeAttributes(doc string) (map[string]string, error) {
	all := map[string]string{}
	if err := json.Unmarshal([]byte(doc), &all); err != nil {
		return nil, errs.Internal(fmt.Errorf("stored attributes: %w", err))
	}
	return all, nil
}

// attributeOwner gives the ID under which attributes are kept: the user's, or
// the name itself where no such user exists.
func (s *Service) attributeOwner(ctx context.Context, app int64, name string) (ident.UserID, error) {
	folded := ident.FoldUser(name)
	if !looksLikeUUID(folded) {
		return folded, nil
	}
	id, err := s.findUserID(ctx, app, name)
	if errs.Is(err, errs.ReasonNotFound) {
		return folded, nil
	}
	return id, err
}

// GetUserAttributes gives all attributes of a user: none for one who does not
// exist.
func (s *Service) GetUserAttributes(ctx context.Context, req *accountv1.GetUserAttributesRequest) (*accountv1.GetUserAttributesResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch {
	case req.GetUsername() == "":
		return nil, errs.NotFound()
	case !ident.ValidUser(req.GetUsername()):
		return &accountv1.GetUserAttributesResponse{}, nil
	}
	id, err := s.attributeOwner(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	key := ident.User{App: app.AppKey(), ID: id}
	known, mark, _ := s.cache.Get(key)
	if known.attributes != nil {
		return &accountv1.GetUserAttributesResponse{Attributes: maps.Clone(known.attributes)}, nil
	}
	doc := "{}"
	_, err = store.Row(ctx, s.db.Read(), `SELECT doc FROM attributes WHERE app = $1 AND username = $2`, []any{app.Number, id}, &doc)
	if err != nil {
		return nil, err
	}
	all, err := decodeAttributes(doc)
	if err != nil {
		return nil, err
	}
	s.cache.Update(key, mark, withAttributes(maps.Clone(all)))
	return &accountv1.GetUserAttributesResponse{Attributes: all}, nil
}

// GetUserAttributesCapacity gives the size of all attributes of the app.
func (s *Service) GetUserAttributesCapacity(ctx context.Context, req *accountv1.GetUserAttributesCapacityRequest) (*accountv1.GetUserAttributesCapacityResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	n, err := quota.Used(ctx, s.db.Read(), app.Number, tier.SizeUserAttributesPerApp, "")
	if err != nil {
		return nil, err
	}
	return &accountv1.GetUserAttributesCapacityResponse{Bytes: n}, nil
}

// BatchGetUserAttributes returns attributes of several users, all or chosen
// ones, under the names that the request has for them.
func (s *Service) BatchGetUserAttributes(ctx context.Context, req *accountv1.BatchGetUserAttributesRequest) (*accountv1.BatchGetUserAttributesResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch n := len(req.GetTargets()); {
	case n == 0:
		return nil, invalid()
	case n > maxTargets:
		return nil, errs.InvalidReason(errs.ReasonBadRequest, fmt.Sprintf("exceed allowed batch size %d", maxTargets))
	}
	args := []any{app.Number}
	for _, t := range req.GetTargets() {
		if ident.ValidUser(t) {
			args = append(args, ident.FoldUser(t))
		}
	}
	found := make(map[ident.UserID]map[string]string, len(req.GetTargets()))
	if len(args) > 1 {
		query := `SELECT username, doc FROM attributes WHERE app = $1 AND username IN (` + store.In(2, len(args)-1) + `)`
		err = store.Each(ctx, s.db.Read(), query, args, func(row store.Scanner) error {
			var id ident.UserID
			var doc string
			if err := row.Scan(&id, &doc); err != nil {
				return err
			}
			all, err := decodeAttributes(doc)
			found[id] = pick(all, req.GetProperties())
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	resp := &accountv1.BatchGetUserAttributesResponse{Users: make([]*accountv1.UserAttributes, len(req.GetTargets()))}
	for i, t := range req.GetTargets() {
		resp.Users[i] = &accountv1.UserAttributes{Username: t, Attributes: found[ident.FoldUser(t)]}
	}
	return resp, nil
}

// pick returns the attributes with these keys; without keys, all.
func pick(all map[string]string, keys []string) map[string]string {
	if len(keys) == 0 {
		return all
	}
	out := make(map[string]string, len(keys))
	for _, k := range keys {
		if v, ok := all[k]; ok {
			out[k] = v
		}
	}
	return out
}

// DeleteUserAttributes deletes all attributes of a user. It is no error if
// there are none.
func (s *Service) DeleteUserAttributes(ctx context.Context, req *accountv1.DeleteUserAttributesRequest) (*accountv1.DeleteUserAttributesResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch {
	case req.GetUsername() == "":
		return nil, errs.NotFound()
	case !ident.ValidUser(req.GetUsername()):
		return &accountv1.DeleteUserAttributesResponse{}, nil
	}
	id, err := s.attributeOwner(ctx, app.Number, req.GetUsername())
	if err != nil {
		return nil, err
	}
	err = s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		deleted, err := deleteAttributes(ctx, tx, app.Number, id)
		if deleted {
			ev.changed(id, busv1.UserEvent_CHANGE_ATTRIBUTES)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.DeleteUserAttributesResponse{}, nil
}
