package natsx_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/natsx"
	"github.com/chappe-im/chappe/pkg/testkit"
)

// olderServer speaks as much of NATS's protocol as a connection takes to be
// made, and says that it is of a version.
func olderServer(t *testing.T, version string) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = fmt.Fprintf(c, "INFO {\"server_id\":\"x\",\"version\":%q,\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n", version)
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					if strings.HasPrefix(lines.Text(), "PING") {
						_, _ = c.Write([]byte("PONG\r\n"))
					}
				}
			}()
		}
	}()
	return "nats://" + lis.Addr().String()
}

func TestServersThatAreTooOldAreRefused(t *testing.T) {
	t.Parallel()
	for version, says := range map[string]string{
		"2.10.29":     "it is version 2.10.29, at least 2.11 is needed",
		"1.4.1":       "at least 2.11 is needed",
		"":            "cannot be read",
		"2.11.0":      "",
		"2.12.0-RC.1": "",
		"3.0.0":       "",
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c, err := natsx.Connect(t.Context(), natsx.Config{URL: olderServer(t, version), Logger: testkit.Logger(t)})
			if says != "" {
				require.ErrorContains(t, err, says)
				return
			}
			require.NoError(t, err)
			require.NoError(t, c.Drain(t.Context()))
		})
	}
}
