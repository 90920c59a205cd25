package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// listening lists the sockets on which a process can be reached: TCP ports,
// UDP ports, and the names of listening unix sockets.
func listening(t *testing.T, pid int) []string {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	own := map[string]bool{}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(fmt.Sprintf("/proc/%d/fd", pid), fd.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var found []string
	each := func(file string, fields int, look func(f []string)) {
		raw, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if os.IsNotExist(err) {
			return // a kernel without IPv6
		}
		require.NoError(t, err)
		defer func() { _ = raw.Close() }()
		sc := bufio.NewScanner(raw)
		sc.Scan() // the heading
		for sc.Scan() {
			if f := strings.Fields(sc.Text()); len(f) >= fields {
				look(f)
			}
		}
		require.NoError(t, sc.Err())
	}
	for _, kind := range []string{"tcp", "tcp6", "udp", "udp6"} {
		each(kind, 10, func(f []string) {
			const listen = "0A"
			if !own[f[9]] || strings.HasPrefix(kind, "tcp") && f[3] != listen {
				return
			}
			_, hex, _ := strings.Cut(f[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			require.NoError(t, err)
			found = append(found, fmt.Sprintf("%s %d", kind[:3], port))
		})
	}
	each("unix", 7, func(f []string) {
		const acceptsConnections = "00010000"
		if own[f[6]] && f[3] == acceptsConnections {
			found = append(found, "unix "+strings.Join(f[7:], " "))
		}
	})
	slices.Sort(found)
	return found
}

func ports(addrs ...string) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, "tcp "+a[strings.LastIndex(a, ":")+1:])
	}
	slices.Sort(out)
	return out
}

func TestOpensOnlyWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir())
	require.Equal(t, ports(s.http, s.grpc, s.ops), listening(t, s.cmd.Process.Pid))

	quiet := serve(t, t.TempDir(), "--ops", "", "--nats-listen", "127.0.0.1:0", "--demo")
	sockets := listening(t, quiet.cmd.Process.Pid)
	require.Len(t, sockets, 3, "REST, gRPC and NATS")
	for _, p := range ports(quiet.http, quiet.grpc) {
		require.Contains(t, sockets, p)
	}
}
