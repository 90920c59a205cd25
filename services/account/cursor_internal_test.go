package account

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// Whatever a client sends as a cursor, it is refused or it is the one text of
// the position that it names.
func FuzzCursors(f *testing.F) {
	id, err := uuid.NewV7()
	require.NoError(f, err)
	f.Add(position{created: 1_700_000_000_123, uuid: id.String()}.cursor())
	f.Add(relationPosition{added: 1_700_000_000_123_456, user: "a.b-c_d"}.cursor())
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, cursor string) {
		if p, err := parseCursor(cursor); err == nil && cursor != "" {
			require.Equal(t, cursor, p.cursor())
		}
		if p, err := parseRelationCursor(cursor); err == nil && cursor != "" {
			require.Equal(t, cursor, p.cursor())
		}
	})
}
