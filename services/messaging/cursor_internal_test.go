package messaging

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCursors(t *testing.T) {
	t.Parallel()
	parts := []progress{{offset: 1, targets: 2, epoch: 3}, {offset: 1 << 40}}
	text := encodeCursor(parts)
	got, err := decodeCursor(text, 2)
	require.NoError(t, err)
	require.Equal(t, parts, got)
	got, err = decodeCursor("AQIBAgcA", 2) // made before there were epochs
	require.NoError(t, err)
	require.Equal(t, []progress{{offset: 1, targets: 2}, {offset: 7}}, got)
	for name, c := range map[string]struct {
		text string
		n    int
	}{
		"other number of partitions": {text, 3},
		"no base64":                  {"!!", 2},
		"other version":              {"AwA", 0},
		"cut short":                  {text[:len(text)-3], 2},
		"longer":                     {text + "AAAA", 2},
		"nothing":                    {"", 2},
	} {
		_, err := decodeCursor(c.text, c.n)
		require.Error(t, err, name)
	}
}
