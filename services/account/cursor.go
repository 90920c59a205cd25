package account

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strings"

	"github.com/google/uuid"

	"github.com/chappe-im/chappe/pkg/ident"
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

// relationPosition is a place in a user's contacts or block list, newest first:
// after the user added then, in Unix microseconds.
type relationPosition struct {
	added int64
	user  string
}

func (p relationPosition) cursor() string {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.added)) // read back as it was
	return base64.RawURLEncoding.EncodeToString(append(b, p.user...))
}

func parseRelationCursor(cursor string) (relationPosition, error) {
	if cursor == "" {
		return relationPosition{added: math.MaxInt64}, nil
	}
	b, err := decodeCursor(cursor)
	if err != nil || len(b) <= 8 || !ident.ValidUser(string(b[8:])) {
		return relationPosition{}, invalid()
	}
	return relationPosition{
		added: int64(binary.BigEndian.Uint64(b)), // as it was written
		user:  string(b[8:]),
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
