package account

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"

	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/names"
)

// position is a place in the list of an app's users: after the user created
// then, with that UUID.
type position struct {
	created int64
	uuid    string
}

const positionBytes = 8 + 16

// cursor writes a position as clients carry it around: opaque, URL-safe.
func (p position) cursor() string {
	var b [positionBytes]byte
	binary.BigEndian.PutUint64(b[:], uint64(p.created)) // read back as it was
	id, err := uuid.Parse(p.uuid)
	if err != nil {
		return ""
	}
	copy(b[8:], id[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// parseCursor reads it; an empty one is the beginning.
func parseCursor(cursor string) (position, error) {
	if cursor == "" {
		return position{created: -1}, nil
	}
	b, err := decodeCursor(cursor)
	if err != nil || len(b) != positionBytes {
		return position{}, invalid()
	}
	return position{
		created: int64(binary.BigEndian.Uint64(b)), // as it was written
		uuid:    uuid.UUID(b[8:]).String(),
	}, nil
}

func decodeCursor(cursor string) ([]byte, error) {
	if strings.ContainsAny(cursor, "\r\n") { // the decoder would step over them
		return nil, invalid()
	}
	return base64.RawURLEncoding.Strict().DecodeString(cursor)
}

// contactPosition is a place in a user's contacts, newest first: after the
// friend added then, in Unix microseconds.
type contactPosition struct {
	added  int64
	friend string
}

func (p contactPosition) cursor() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.added)) // read back as it was
	return base64.RawURLEncoding.EncodeToString(append(b, p.friend...))
}

func parseContactCursor(cursor string) (contactPosition, error) {
	if cursor == "" {
		return contactPosition{added: math.MaxInt64}, nil
	}
	b, err := decodeCursor(cursor)
	if err != nil || len(b) <= 8 || !names.ValidUser(string(b[8:])) {
		return contactPosition{}, invalid()
	}
	return contactPosition{
		added:  int64(binary.BigEndian.Uint64(b)), // as it was written
		friend: string(b[8:]),
	}, nil
}

// Pages of users and contacts.
const (
	defaultPage = 10
	maxPage     = 100
)

// pageLimit reads the limit of a list of users.
func pageLimit(limit *int32) (int, error) {
	if limit == nil {
		return defaultPage, nil
	}
	if *limit < 1 {
		return 0, invalid()
	}
	return min(int(*limit), maxPage), nil
}
