package gateway

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRefusal tells the server's own answers from those of handlers, and from
// what is written once a connection is no HTTP any more.
func TestRefusal(t *testing.T) {
	t.Parallel()
	const own = "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
	for written, want := range map[string]int{
		"HTTP/1.1 400 Bad Request" + own + "400 Bad Request":                                            400,
		"HTTP/1.1 400 Bad Request: missing required Host header" + own + "400 Bad Request: missing":     400,
		"HTTP/1.1 431 Request Header Fields Too Large" + own + "431":                                    431,
		"HTTP/1.1 501 Not Implemented" + own + "Unsupported transfer encoding":                          501,
		"HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n":             417,
		"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nDate: x\r\n\r\n{}":               0,
		"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nDate: x\r\n\r\nnot found": 0,
		"HTTP/1.1 200 OK" + own + "x":  0,
		"HTTP/1.1 4xx Odd" + own:       0,
		"HTTP/1.1 400":                 0,
		"\x82\x7e\x00\x10HTTP/1.1 400": 0,
		"":                             0,
	} {
		status, ok := refusal([]byte(written))
		require.Equal(t, want != 0, ok, "%q", written)
		if ok {
			require.Equal(t, want, status)
		}
	}
}
