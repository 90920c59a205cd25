package account

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
)

// maxExpiresIn is the longest life that clients can read: a signed 32-bit
// number of seconds. A token that never expires says so too.
const maxExpiresIn = math.MaxInt32

// IssueToken issues an app or user token. That the caller of an inherit grant
// is the app is for the gateway to see to.
func (s *Service) IssueToken(ctx context.Context, req *accountv1.IssueTokenRequest) (*accountv1.IssueTokenResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if req.Ttl != nil && req.GetTtl() < 0 {
		return nil, invalid()
	}
	// A token counts as issued when its grant began: if the password changes, or
	// the user is banned, while it is being checked, the token is void from the
	// start.
	began := s.now()
	switch req.GetGrantType() {
	case "client_credentials":
		return s.grantApp(app, req, began)
	case "password":
		return s.grantPassword(ctx, app, req, began)
	case "inherit":
		return s.grantInherit(ctx, app, req, began)
	default:
		return nil, invalid()
	}
}

// GetTokenExpiry tells when a token ends, which the gateway has read.
func (s *Service) GetTokenExpiry(ctx context.Context, req *accountv1.GetTokenExpiryRequest) (*accountv1.GetTokenExpiryResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if _, err := s.findUserID(ctx, app.Number, req.GetUsername()); err != nil {
		return nil, err
	}
	ends := req.GetExpiresAt()
	if ends == 0 {
		ends = s.now().Add(maxExpiresIn * time.Second).UnixMilli()
	}
	return &accountv1.GetTokenExpiryResponse{ExpireTimestamp: ends}, nil
}

func invalidGrant(message string) error { return errs.InvalidReason(errs.ReasonInvalidGrant, message) }

func (s *Service) grantApp(app *catalog.App, req *accountv1.IssueTokenRequest, began time.Time) (*accountv1.IssueTokenResponse, error) {
	switch {
	case req.GetClientId() == "":
		return nil, errs.Invalid("client_id must be provided.")
	case req.GetClientSecret() == "":
		return nil, errs.Invalid("client_secret must be provided")
	case req.GetClientId() != app.ClientID:
		return nil, invalidGrant("client_id does not match")
	case !app.CheckSecret(req.GetClientSecret()):
		return nil, invalidGrant("client_secret does not match")
	}
	resp := s.sign(app, req, token.Claims{Kind: token.App, IssuedAt: began})
	resp.Application = app.UUID
	return resp, nil
}

func (s *Service) grantPassword(ctx context.Context, app *catalog.App, req *accountv1.IssueTokenRequest, began time.Time) (*accountv1.IssueTokenResponse, error) {
	// That a user is not there is said: client SDKs ask for it.
	u, err := findUser(ctx, s.db.Read(), app.Number, req.GetUsername())
	switch {
	case errs.Is(err, errs.ReasonNotFound):
		return nil, errs.New(codes.NotFound, errs.ReasonInvalidGrant, "user not found")
	case err != nil:
		return nil, err
	}
	// Passwords of any length cost the same, but nobody has one this long.
	stored, password := u.hash.String, req.GetPassword()
	if len(password) > maxPassword*4 {
		stored, password = "", ""
	}
	ok, err := s.passwords.check(ctx, stored, password)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, invalidGrant("invalid password")
	}
	return s.grantUser(app, req, u, began)
}

func (s *Service) grantInherit(ctx context.Context, app *catalog.App, req *accountv1.IssueTokenRequest, began time.Time) (*accountv1.IssueTokenResponse, error) {
	u, err := findUser(ctx, s.db.Read(), app.Number, req.GetUsername())
	if errs.Is(err, errs.ReasonNotFound) && req.GetAutoCreateUser() {
		u, err = s.autoCreate(ctx, app, req.GetUsername())
	}
	if err != nil {
		return nil, noEntity(err)
	}
	return s.grantUser(app, req, u, began)
}

// autoCreate registers a user without a password.
func (s *Service) autoCreate(ctx context.Context, app *catalog.App, username string) (*user, error) {
	if err := ident.CheckNewUser(username); err != nil {
		return nil, err
	}
	created, _, err := s.createUsers(ctx, app, []newUser{{id: ident.FoldUser(username)}})
	if err != nil {
		return nil, err
	}
	if len(created) == 1 {
		return created[0], nil
	}
	return findUser(ctx, s.db.Read(), app.Number, username) // another call was faster
}

func (s *Service) grantUser(app *catalog.App, req *accountv1.IssueTokenRequest, u *user, issued time.Time) (*accountv1.IssueTokenResponse, error) {
	if !u.activated {
		return nil, invalidGrant("user not activated")
	}
	if from := time.UnixMilli(u.validFrom); issued.Before(from) {
		// u was read after the grant began, so this token is newer than what the
		// instant voids, even where it lies ahead of this node's clock.
		issued = from
	}
	resp := s.sign(app, req, token.Claims{Kind: token.User, User: string(u.username), IssuedAt: issued})
	resp.User = u.proto()
	return resp, nil
}

func (s *Service) sign(app *catalog.App, req *accountv1.IssueTokenRequest, c token.Claims) *accountv1.IssueTokenResponse {
	life := app.TokenTTL
	if req.Ttl != nil {
		life = time.Duration(min(req.GetTtl(), maxExpiresIn)) * time.Second
	}
	seconds := int64(maxExpiresIn)
	if life > 0 {
		seconds = min(int64(life/time.Second), maxExpiresIn)
		c.ExpiresAt = s.now().Add(life)
	}
	c.App = app.Number
	return &accountv1.IssueTokenResponse{AccessToken: token.Sign(app.SigningKey(), c), ExpiresIn: seconds}
}
