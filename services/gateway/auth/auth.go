// Package auth proves who calls: it verifies the tokens of apps and users in
// the gateway itself, without a call, with the app's keys and the list of
// revoked tokens. REST calls and client connections both use it.
package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/token"
)

// Kind tells whom a token stands for.
type Kind uint8

// The kinds.
const (
	// App is an app's own back end: its administrator.
	App Kind = iota + 1
	// User is one user of an app.
	User
)

// Principal is a caller who has been proved.
type Principal struct {
	App  ident.AppKey
	Kind Kind
	// User is empty for an app.
	User     ident.UserID
	IssuedAt time.Time
	// ExpiresAt is zero for a token that never expires.
	ExpiresAt time.Time
	// KeyID tells which of the app's keys signed, see KeyHolds.
	KeyID uint32
}

// IsApp reports whether the caller is the app itself.
func (p *Principal) IsApp() bool { return p.Kind == App }

// Authenticator verifies tokens. Errors are *errs.Error with the texts of the
// wire contract: an unknown app is 404, everything else 401.
type Authenticator interface {
	Verify(ctx context.Context, org, app, rawToken string) (Principal, error)
}

// Apps finds apps; *catalog.Catalog does.
type Apps interface {
	App(org, app string) (*catalog.App, bool)
}

// Revocations tells which tokens are void before their time; *revocation.List
// does. An empty user asks about an app's own tokens.
type Revocations interface {
	Revoked(appKey, user string, issuedAt time.Time) bool
}

// Verifier is the Authenticator of a gateway.
type Verifier struct {
	apps    Apps
	revoked Revocations
	now     func() time.Time
	seen    cache
}

var _ Authenticator = (*Verifier)(nil)

// NewVerifier makes a Verifier. now nil means time.Now.
func NewVerifier(apps Apps, revoked Revocations, now func() time.Time) *Verifier {
	if now == nil {
		now = time.Now
	}
	return &Verifier{apps: apps, revoked: revoked, now: now, seen: newCache()}
}

// Verify checks a token for an app. An empty token is the error of a missing
// one.
func (v *Verifier) Verify(_ context.Context, org, app, rawToken string) (Principal, error) {
	a, ok := v.apps.App(org, app)
	if !ok {
		return Principal{}, errs.AppNotFound(org, app)
	}
	return v.VerifyFor(a, rawToken)
}

// VerifyFor is Verify for an app that has been looked up.
func (v *Verifier) VerifyFor(a *catalog.App, rawToken string) (Principal, error) {
	if rawToken == "" {
		return Principal{}, Missing()
	}
	now := v.now()
	claims, ok := v.seen.get(a, rawToken)
	if !ok {
		var err error
		if claims, err = token.Verify(a.Number, a.Keys, rawToken, now); err != nil {
			return Principal{}, token.Error(err)
		}
		v.seen.put(a, rawToken, claims)
	}
	if !claims.ExpiresAt.IsZero() && !now.Before(claims.ExpiresAt) {
		return Principal{}, token.Error(token.ErrExpired)
	}
	p := Principal{App: a.AppKey(), Kind: App, IssuedAt: claims.IssuedAt, ExpiresAt: claims.ExpiresAt, KeyID: claims.KeyID}
	if claims.Kind == token.User {
		p.Kind, p.User = User, ident.UserID(claims.User)
	}
	if v.revoked.Revoked(a.Key, string(p.User), p.IssuedAt) {
		// To the caller a token that was voided early has expired.
		return Principal{}, token.Error(token.ErrExpired)
	}
	return p, nil
}

// KeyHolds reports whether a key still signs for an app. When it does not, all
// tokens that it signed are void.
func (v *Verifier) KeyHolds(app ident.AppKey, keyID uint32) bool {
	org, name, _ := app.Split()
	a, ok := v.apps.App(org, name)
	return ok && slices.ContainsFunc(a.Keys, func(k token.Key) bool { return k.ID == keyID })
}

// Missing is the error of a call without a token.
func Missing() *errs.Error { return token.Error(nil) }

// NotAllowed is the error of a caller whose token is good but does not reach
// this far: 401, with the text that client SDKs take for that.
func NotAllowed() *errs.Error {
	return errs.Unauthenticated(errs.ReasonUnauthorized, "Unable to authenticate (OAuth)")
}

// Bearer takes the token out of an Authorization header. It is empty if there
// is none, or one of another scheme.
func Bearer(header string) string {
	const scheme = "bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return ""
	}
	return strings.TrimSpace(header[len(scheme):])
}
