// Package secrets reads the files that hold shared secrets, and makes them where
// the server owns them. A file has one secret a line: the first one is used, the
// others are accepted too, so that a secret can be exchanged without an
// interruption. Empty lines and lines that begin with # do not count.
package secrets

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/chappe-im/chappe/pkg/private"
)

const (
	// newBytes is the length of a secret that is made here.
	newBytes = 32
	// minLength is the least length of a secret that somebody else has made, in
	// characters.
	minLength = 16
	// maxFileBytes bounds a file, so that a wrong path is not read for ever.
	maxFileBytes = 64 << 10
)

// Set is the secrets of a file. The zero value has none and accepts none.
type Set struct {
	first string
	// digests are of equal length, so that comparing takes the same time for
	// all of them.
	digests [][sha256.Size]byte
}

// NewSet makes a set of secrets; the first one is the one to use.
func NewSet(secrets ...string) Set {
	var s Set
	for i, secret := range secrets {
		if i == 0 {
			s.first = secret
		}
		s.digests = append(s.digests, sha256.Sum256([]byte(secret)))
	}
	return s
}

// First returns the secret to use, or "" if there is none.
func (s Set) First() string { return s.first }

// Empty reports whether the set has no secret.
func (s Set) Empty() bool { return len(s.digests) == 0 }

// Accepts reports whether a secret is one of the set. How long it takes does not
// depend on what is right about it.
func (s Set) Accepts(secret string) bool {
	given, found := sha256.Sum256([]byte(secret)), 0
	for i := range s.digests {
		found |= subtle.ConstantTimeCompare(given[:], s.digests[i][:])
	}
	return found == 1
}

// String keeps secrets out of logs and error texts.
func (s Set) String() string { return fmt.Sprintf("(%d secrets)", len(s.digests)) }

// GoString is String.
func (s Set) GoString() string { return s.String() }

// Read returns the secrets of a file. A file that every user of the machine may
// read is an error.
func Read(path string) (Set, error) {
	lines, err := Lines(path)
	if err != nil {
		return Set{}, err
	}
	for i, l := range lines {
		if len(l) < minLength {
			return Set{}, fmt.Errorf("%s: secret %d has fewer than %d characters", path, i+1, minLength)
		}
	}
	return NewSet(lines...), nil
}

// ReadOrCreate is Read, and makes the file with a random secret if it is
// missing. It also tightens the mode of the file.
func ReadOrCreate(path string) (Set, error) {
	if err := Create(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return Set{}, fmt.Errorf("create %s: %w", path, err)
	}
	var foreign *private.ForeignError
	if err := private.File(path); err != nil && !errors.As(err, &foreign) {
		return Set{}, err
	}
	return Read(path)
}

// Create makes a file with a random secret of 32 bytes in hex. A file that
// exists is left alone, and the error is fs.ErrExist.
func Create(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	return private.Create(path, []byte(New()+"\n"))
}

// New returns a random secret of 32 bytes in hex, which needs no quoting in URLs,
// shells and headers.
func New() string {
	var raw [newBytes]byte
	_, _ = rand.Read(raw[:]) // never fails: the program ends instead
	return hex.EncodeToString(raw[:])
}

// Lines returns the lines of a secret file that count. No secret is an error, as
// is a file that every user of the machine may read.
func Lines(path string) ([]string, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return nil, fmt.Errorf("%s is a directory and not a file with a secret", path)
	case info.Size() > maxFileBytes:
		return nil, fmt.Errorf("%s is too large for a file with secrets", path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0:
		return nil, fmt.Errorf("%s can be read by every user of this machine: chmod o-rwx it, and put a new secret into it if somebody may have read it", path)
	}
	var lines []string
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, maxFileBytes)
	for sc.Scan() {
		line := strings.TrimSpace(string(bytes.TrimPrefix(sc.Bytes(), []byte("\xef\xbb\xbf"))))
		if line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s has no secret in it", path)
	}
	return lines, nil
}
