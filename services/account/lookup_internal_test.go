package account

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRounded(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 100: 128, 128: 128, 129: 129, 600: 600} {
		args := []any{int64(7)}
		for i := range n {
			args = append(args, i)
		}
		got := rounded(args)
		require.Len(t, got, want+1)
		require.Equal(t, args, got[:n+1])
		for _, more := range got[n+1:] {
			require.Equal(t, 0, more)
		}
	}
}
