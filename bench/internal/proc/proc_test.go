package proc

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	got, err := parseStat([]byte("7 (a (b) c) S 1 7 7 0 -1 4194304 1 2 3 4 150 25 0 0 20 0 1 0 100 1 1"))
	require.NoError(t, err)
	require.Equal(t, 1750*time.Millisecond, got)
	for _, bad := range []string{"", "7 (x) S 1 2", "7 (x) S 1 7 7 0 -1 4194304 1 2 3 4 x 25"} {
		_, err := parseStat([]byte(bad))
		require.Error(t, err, "%q", bad)
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	got, err := parseStatus([]byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\nThreads:\t4\n"))
	require.NoError(t, err)
	require.Equal(t, Memory{Resident: 1 << 20, Peak: 2 << 20, Anonymous: 1 << 19}, got)
	_, err = parseStatus([]byte("VmRSS:\t 1 kB\n"))
	require.Error(t, err)
}

func TestOwnProcess(t *testing.T) {
	t.Parallel()
	before, err := CPU(os.Getpid())
	require.NoError(t, err)
	// Burn until the kernel says so: no clock is asserted.
	sum := 0
	require.Eventually(t, func() bool {
		for i := range 20_000_000 {
			sum += i
		}
		now, err := CPU(os.Getpid())
		return err == nil && now > before
	}, 20*time.Second, time.Millisecond)
	require.NotZero(t, sum)

	m, err := ReadMemory(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, m.Resident)
	require.GreaterOrEqual(t, m.Peak, m.Anonymous)
}

func TestNoSuchProcess(t *testing.T) {
	t.Parallel()
	_, err := CPU(-1)
	require.Error(t, err)
	_, err = ReadMemory(-1)
	require.Error(t, err)
	_, err = Settle(t.Context(), -1, time.Second)
	require.Error(t, err)
}
