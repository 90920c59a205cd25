// Package seal encrypts values before they are stored where others may read
// them, with AES-256 in Galois/Counter Mode. Each value is bound to the place it
// belongs to: moved to another place it does not open.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/chappe-im/chappe/pkg/private"
	"github.com/chappe-im/chappe/pkg/secrets"
)

const (
	keyBytes = 32
	idBytes  = 4
	// version1 begins every sealed value: version, key ID, nonce, ciphertext.
	version1 = 1
	header   = 1 + idBytes
)

// ErrUnknownKey says that a value was sealed with a key that is not at hand.
var ErrUnknownKey = errors.New("sealed with a key that is not in the seal key file")

// ErrDamaged says that a value is not what was sealed at its place.
var ErrDamaged = errors.New("not what was sealed here")

// Keys seal with the first key and open with all. They are safe for concurrent
// use.
type Keys struct {
	keys []key
}

type key struct {
	id   [idBytes]byte
	aead cipher.AEAD
}

// NewKeys makes Keys of keys of 32 bytes; the first one seals.
func NewKeys(raw ...[]byte) (*Keys, error) {
	if len(raw) == 0 {
		return nil, errors.New("no seal key")
	}
	k := &Keys{}
	for i, r := range raw {
		if len(r) != keyBytes {
			return nil, fmt.Errorf("seal key %d has %d bytes and not %d", i+1, len(r), keyBytes)
		}
		block, err := aes.NewCipher(r)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		one := key{aead: aead}
		digest := sha256.Sum256(append([]byte("chappe seal key "), r...))
		copy(one.id[:], digest[:])
		k.keys = append(k.keys, one)
	}
	return k, nil
}

// Read returns the keys of a file: one key a line, 32 bytes in base64. The first
// one seals, all of them open.
func Read(path string) (*Keys, error) {
	lines, err := secrets.Lines(path)
	if err != nil {
		return nil, err
	}
	raw := make([][]byte, len(lines))
	for i, l := range lines {
		if raw[i], err = base64.StdEncoding.DecodeString(l); err != nil || len(raw[i]) != keyBytes {
			return nil, fmt.Errorf("%s: key %d is not %d bytes in base64", path, i+1, keyBytes)
		}
	}
	return NewKeys(raw...)
}

// Create makes a file with a random key. A file that exists is left alone, and the
// error is fs.ErrExist.
func Create(path string) error {
	var raw [keyBytes]byte
	_, _ = rand.Read(raw[:]) // never fails: the program ends instead
	return private.Create(path, []byte(base64.StdEncoding.EncodeToString(raw[:])+"\n"))
}

// ID names the key that seals; it tells nothing of the key.
func (k *Keys) ID() string { return hex.EncodeToString(k.keys[0].id[:]) }

// String keeps keys out of logs and error texts.
func (k *Keys) String() string { return "(seal key " + k.ID() + ")" }

// GoString is String.
func (k *Keys) GoString() string { return k.String() }

// Seal encrypts a value for a place.
func (k *Keys) Seal(place string, value []byte) []byte {
	first := k.keys[0]
	out := make([]byte, header, header+len(value)+first.aead.Overhead())
	out[0] = version1
	copy(out[1:], first.id[:])
	return first.aead.Seal(out, nil, value, additional(out[:header], place)) //nolint:gosec // the library draws the nonce itself
}

// Open decrypts what was sealed for a place. The error is ErrUnknownKey or
// ErrDamaged.
func (k *Keys) Open(place string, sealed []byte) ([]byte, error) {
	if len(sealed) < header || sealed[0] != version1 {
		return nil, ErrDamaged
	}
	for _, one := range k.keys {
		if [idBytes]byte(sealed[1:header]) != one.id {
			continue
		}
		value, err := one.aead.Open(nil, nil, sealed[header:], additional(sealed[:header], place))
		if err != nil {
			return nil, ErrDamaged
		}
		return value, nil
	}
	return nil, fmt.Errorf("key %s: %w", hex.EncodeToString(sealed[1:header]), ErrUnknownKey)
}

// Current reports whether a value was sealed with the key that seals now.
func (k *Keys) Current(sealed []byte) bool {
	return len(sealed) >= header && sealed[0] == version1 && [idBytes]byte(sealed[1:header]) == k.keys[0].id
}

// additional is what the encryption authenticates beside the value.
func additional(head []byte, place string) []byte {
	return append(append([]byte(nil), head...), place...)
}
