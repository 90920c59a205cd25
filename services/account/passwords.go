package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/argon2"

	"github.com/chappe-im/chappe/pkg/errs"
)

const (
	saltBytes = 16
	hashBytes = 32
)

// passwords makes and checks password hashes.
type passwords struct {
	cost  Argon2
	slots chan struct{}
	// queue bounds the calls that wait for a slot.
	queue chan struct{}
	// dummy is checked in place of a hash that is not there, so that a user who
	// does not exist answers no sooner than one whose password is wrong.
	dummy string
	// key and warm remember checked passwords: stored hash to MAC of the
	// password. The stored hash holds a salt of its own, so it names the user
	// and the password both; after a change the old entry is never asked for.
	key  [32]byte
	warm *lru.Cache[string, [sha256.Size]byte]

	checks *prometheus.CounterVec
}

func newPasswords(cfg Config, reg prometheus.Registerer) (*passwords, error) {
	warm, err := lru.New[string, [sha256.Size]byte](cfg.CredentialCache)
	if err != nil {
		return nil, fmt.Errorf("credential cache: %w", err)
	}
	p := &passwords{
		cost: cfg.Argon2, slots: make(chan struct{}, cfg.ParallelHashes), queue: make(chan struct{}, cfg.WaitingHashes), warm: warm,
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chappe_account_password_checks_total", Help: "Password checks, by whether the credential cache answered (warm) or the hash (cold).",
		}, []string{"way"}),
	}
	_, _ = rand.Read(p.key[:]) // never fails: the program ends instead
	var salt [saltBytes]byte
	p.dummy = encodeHash(p.cost, salt[:], make([]byte, hashBytes))
	if err := reg.Register(p.checks); err != nil {
		return nil, fmt.Errorf("account metrics: %w", err)
	}
	return p, nil
}

// hash gives the stored form of a password.
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	var salt [saltBytes]byte
	_, _ = rand.Read(salt[:]) // never fails: the program ends instead
	h, err := p.compute(ctx, p.cost, password, salt[:], hashBytes)
	if err != nil {
		return "", err
	}
	return encodeHash(p.cost, salt[:], h), nil
}

// check reports whether a password fits a stored hash; "" is the hash of a
// user who does not exist or has no password, and takes as long.
func (p *passwords) check(ctx context.Context, stored, password string) (bool, error) {
	mac := p.mac(stored, password)
	if known, ok := p.warm.Get(stored); ok && stored != "" {
		if subtle.ConstantTimeCompare(known[:], mac[:]) == 1 {
			p.checks.WithLabelValues("warm").Inc()
			return true, nil
		}
	}
	p.checks.WithLabelValues("cold").Inc()
	against := stored
	if stored == "" {
		against = p.dummy
	}
	cost, salt, want, err := decodeHash(against)
	if err != nil {
		return false, errs.Internal(err)
	}
	got, err := p.compute(ctx, cost, password, salt, uint32(len(want))) //nolint:gosec // a few bytes
	if err != nil {
		return false, err
	}
	if stored == "" || subtle.ConstantTimeCompare(got, want) != 1 {
		return false, nil
	}
	p.warm.Add(stored, mac)
	return true, nil
}

func (p *passwords) mac(stored, password string) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, p.key[:])
	_, _ = h.Write([]byte(stored))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(password))
	h.Sum(out[:0])
	return out
}

// busyDelay is when a call that found too many before it may come again.
const busyDelay = time.Second

// compute waits for a slot: a hash takes megabytes and tens of milliseconds. It
// refuses at once if too many wait already.
func (p *passwords) compute(ctx context.Context, cost Argon2, password string, salt []byte, size uint32) ([]byte, error) {
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		return nil, errs.RateLimited(busyDelay)
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, errs.From(ctx.Err())
	}
	defer func() { <-p.slots }()
	return argon2.IDKey([]byte(password), salt, cost.Passes, cost.MemoryKiB, cost.Threads, size), nil
}

// encodeHash gives the PHC text form: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func encodeHash(c Argon2, salt, hash []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.MemoryKiB, c.Passes, c.Threads,
		b64.EncodeToString(salt), b64.EncodeToString(hash))
}

var errBadHash = errors.New("stored password hash is not readable")

func decodeHash(s string) (c Argon2, salt, hash []byte, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errBadHash
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.MemoryKiB, &c.Passes, &c.Threads); err != nil {
		return c, nil, nil, errBadHash
	}
	b64 := base64.RawStdEncoding
	if salt, err = b64.DecodeString(parts[4]); err != nil {
		return c, nil, nil, errBadHash
	}
	if hash, err = b64.DecodeString(parts[5]); err != nil || len(hash) == 0 || c.Passes == 0 || c.Threads == 0 {
		return c, nil, nil, errBadHash
	}
	return c, salt, hash, nil
}
