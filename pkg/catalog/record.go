// Package catalog knows the apps and tiers of the installation. They live in
// etcd; a Catalog watches them and gives every service the same immutable view
// of an app, with its tier compiled, without a lock or a call.
package catalog

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/chappe-im/chappe/pkg/ident"
	"github.com/chappe-im/chappe/pkg/seal"
	"github.com/chappe-im/chappe/pkg/tier"
	"github.com/chappe-im/chappe/pkg/token"
)

// Where things are in etcd, relative to the client's prefix.
const (
	AppsPrefix  = "/apps/"
	TiersPrefix = "/tiers/"
	// seedsPrefix marks the compiled-in tiers that were written once, so that
	// one that an operator deleted does not come back.
	seedsPrefix = "/seeds/"
)

// AppKey is the etcd key of an app, TierKey that of a tier.
func AppKey(org, app string) string { return AppsPrefix + org + "/" + app }

// TierKey is the etcd key of a tier.
func TierKey(name string) string { return TiersPrefix + name }

// Registration modes of an app.
const (
	// RegistrationOpen lets anyone register a user.
	RegistrationOpen = "open"
	// RegistrationAuthorized asks for an app token.
	RegistrationAuthorized = "authorized"
)

// Record is an app as it is stored.
type Record struct {
	Org    string `json:"org"`
	App    string `json:"app"`
	Number int64  `json:"number"`
	UUID   string `json:"uuid"`
	Tier   string `json:"tier"`
	// Overrides is a partial tier document.
	Overrides    json.RawMessage `json:"overrides,omitempty"`
	ClientID     string          `json:"client_id"`
	SecretHash   []byte          `json:"secret_hash"`
	Keys         []RecordKey     `json:"keys"`
	Registration string          `json:"registration"`
	// TokenTTLSeconds is how long tokens live; 0 is for ever.
	TokenTTLSeconds int64 `json:"token_ttl_seconds"`
	// Settings are the app's switches.
	Settings Settings `json:"settings,omitzero"`
	// Created is in Unix milliseconds.
	Created int64 `json:"created"`
}

// Settings are switches of an app. The zero value is what a new app has.
type Settings struct {
	// RESTSendChecks refuses sends over REST whose sender is globally muted.
	RESTSendChecks bool `json:"rest_send_checks,omitempty"`
}

// RecordKey is a token signing key; the newest comes first and signs. Stored it
// is Sealed, read it is Secret.
type RecordKey struct {
	ID     uint32 `json:"id"`
	Secret []byte `json:"secret,omitempty"`
	Sealed []byte `json:"sealed,omitempty"`
}

// minKeyBytes is the least length of a signing key.
const minKeyBytes = 16

// Validate reports everything that is wrong with the record itself. Whether
// its tier exists and its overrides fit is another question.
func (r *Record) Validate() error {
	var all error
	bad := func(format string, args ...any) { all = errors.Join(all, fmt.Errorf(format, args...)) }
	if !ident.ValidOrg(r.Org) {
		bad("org %q: must be 1 to 64 letters, digits, _ or -", r.Org)
	}
	if !ident.ValidApp(r.App) {
		bad("app %q: must be 1 to 32 lower-case letters, digits or -", r.App)
	}
	if r.Number <= 0 {
		bad("number %d: must be positive", r.Number)
	}
	if r.UUID == "" || r.ClientID == "" || len(r.SecretHash) != sha256.Size || len(r.Keys) == 0 {
		bad("uuid, client_id, secret_hash and keys must be set")
	}
	for _, k := range r.Keys {
		if len(k.Secret) < minKeyBytes {
			bad("key %d: shorter than %d bytes", k.ID, minKeyBytes)
		}
	}
	if r.Registration != RegistrationOpen && r.Registration != RegistrationAuthorized {
		bad("registration %q: must be %s or %s", r.Registration, RegistrationOpen, RegistrationAuthorized)
	}
	if r.TokenTTLSeconds < 0 {
		bad("token_ttl_seconds %d: must not be negative", r.TokenTTLSeconds)
	}
	return all
}

// DecodeRecord reads a stored app, opens its keys and checks it.
func DecodeRecord(data []byte, keys *seal.Keys) (*Record, error) {
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("app record: %w", err)
	}
	if err := r.open(keys); err != nil {
		return nil, fmt.Errorf("app record: %w", err)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("app record: %w", err)
	}
	return r, nil
}

// Encode returns the stored form, with the keys sealed.
func (r *Record) Encode(keys *seal.Keys) ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return json.Marshal(r.seal(keys))
}

// HashSecret gives what is stored of a client secret. The secret is random and
// long, so that a plain hash keeps it.
func HashSecret(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// App is an app as services see it. It never changes; a change of the app or
// its tier makes a new one.
type App struct {
	Org  string
	Name string
	// Key is "org#app".
	Key string
	// Number stands for the app in SQL keys and tokens.
	Number       int64
	UUID         string
	ClientID     string
	SecretHash   []byte
	Registration string
	// TokenTTL is how long tokens live unless the call says otherwise; 0 is
	// for ever.
	TokenTTL time.Duration
	Created  time.Time
	Settings Settings
	// Keys verify the app's tokens.
	Keys []token.Key
	// Tier is the app's tier with its overrides.
	Tier *tier.Compiled
	// TierName is the tier that the app is set to. Tier.Name differs from it
	// only if that tier does not exist.
	TierName  string
	Overrides string
	// Revision is that of the app's record in etcd.
	Revision int64
}

// AppKey returns the app's key as a type.
func (a *App) AppKey() ident.AppKey { return ident.AppKey(a.Key) }

// SigningKey is the key that signs new tokens.
func (a *App) SigningKey() token.Key { return a.Keys[0] }

// Open reports whether anyone may register a user.
func (a *App) Open() bool { return a.Registration == RegistrationOpen }

// CheckSecret reports, in constant time, whether a client secret is the app's.
func (a *App) CheckSecret(secret string) bool {
	return subtle.ConstantTimeCompare(HashSecret(secret), a.SecretHash) == 1
}

// NewApp makes the view of a stored app with a tier.
func NewApp(r *Record, revision int64, t *tier.Compiled) *App {
	keys := make([]token.Key, len(r.Keys))
	for i, k := range r.Keys {
		keys[i] = token.Key{ID: k.ID, Secret: k.Secret}
	}
	return &App{
		Org: r.Org, Name: r.App, Key: string(ident.NewAppKey(r.Org, r.App)), Number: r.Number, UUID: r.UUID,
		ClientID: r.ClientID, SecretHash: r.SecretHash, Registration: r.Registration,
		TokenTTL: time.Duration(r.TokenTTLSeconds) * time.Second, Created: time.UnixMilli(r.Created),
		Settings: r.Settings, Keys: keys, Tier: t, TierName: r.Tier, Overrides: string(r.Overrides), Revision: revision,
	}
}
