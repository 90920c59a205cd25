package contract

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/test/harness"
)

// TestOddPaths asks for paths that are almost those of calls. Each is answered
// with an object, and never as if it were the call.
func TestOddPaths(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, harness.Start(t), unlimited(t))
	before := f.snapshot()
	for _, c := range []struct {
		method, path string
		want         refusal
	}{
		{"GET", "/users/", taken},
		{"GET", "/users//", gone},
		{"GET", "/users//status", gone},
		{"POST", "/users//deactivate", gone},
		{"DELETE", "/users/", gone},
		{"DELETE", "/users//contacts/users/bruno", gone},
		{"DELETE", "//users", gone},
		{"GET", "/users/amelia/", taken},
		{"GET", "/users/amelia/status/", taken},
		{"GET", "/users/amelia/nothing", gone},
		{"GET", "/Users/amelia", gone},
		{"GET", "/users/amelia/STATUS", gone},
		{"GET", "/users/..", gone},
		{"GET", "/users/../users", gone},
		{"DELETE", "/users/%2e%2e", gone},
		{"DELETE", "/users/%2E%2E%2Fmutes", gone},
		{"GET", "/users/a%2Fb", gone},
		{"GET", "/users/amelia%3Fx", gone},
		{"GET", "/users/amelia%23", gone},
		{"GET", "/users/amelia;x=1", gone},
		{"GET", "/users/amelia:status", gone},
		{"POST", "/users/amelia/presence/", gone},
		{"GET", "/mutes/", taken},
		{"GET", "/metadata/user/", gone},
		{"DELETE", "/metadata/user/", gone},
		{"PUT", "/metadata/user/", gone},
		{"GET", "/metadata/user", gone},
		{"GET", "", gone},
		{"GET", "/", gone},
		{"GET", "/" + strings.Repeat("x/", 2000), gone},
		{"PATCH", "/users", refusal{405, "unsupported_service_operation", "Service operation not supported"}},
		{"TRACE", "/users/amelia", refusal{405, "unsupported_service_operation", "Service operation not supported"}},
		{"GET", "/token", refusal{405, "unsupported_service_operation", "Service operation not supported"}},
	} {
		f.try(probe{name: c.method + " " + c.path, method: c.method, path: c.path, token: f.Token, want: c.want})
	}
	require.Equal(t, before, f.snapshot(), "an odd path did something")
	// A letter may be escaped: it is the same path.
	f.try(probe{name: "an escaped letter", method: "GET", path: "/users/%61meli%61", token: f.Token})
}

// TestEncodedSlashes asks for paths with a slash that belongs to a segment. None
// is the call that it would be without the escape, in either spelling.
func TestEncodedSlashes(t *testing.T) {
	t.Parallel()
	f := newFixtureWith(t, harness.Start(t), unlimited(t))
	require.Equal(t, 200, f.call("POST", "/users/amelia/contacts/users/bruno", "").Status)
	require.Equal(t, 200, f.call("POST", "/users/amelia/blocks/users", `{"usernames":["carla"]}`).Status)
	before := f.snapshot()
	for _, c := range []struct {
		method, path, body string
		want               refusal
	}{
		{"POST", "/users/amelia%2Fdeactivate", "", gone},
		{"POST", "/users/amelia%2Fpassword", `{"newpassword":"x"}`, gone},
		{"PUT", "/users/amelia%2Fpassword", `{"newpassword":"x","nickname":"x"}`, gone},
		{"GET", "/users/amelia%2Fdisconnect", "", gone},
		{"GET", "/users/amelia%2Fstatus", "", gone},
		{"GET", "/users%2Famelia", "", gone},
		{"DELETE", "/users%2Famelia", "", gone},
		{"DELETE", "/users/%2Famelia", "", gone},
		{"DELETE", "/users/amelia%2F", "", gone},
		{"DELETE", "/users/amelia%2Fcontacts%2Fusers%2Fbruno", "", gone},
		{"DELETE", "/users/amelia/contacts/users%2Fbruno", "", gone},
		{"DELETE", "/users/amelia/contacts%2Fusers/bruno", "", gone},
		{"DELETE", "/users/amelia%2Fblocks/users/carla", "", gone},
		{"DELETE", "/metadata/user%2Famelia", "", gone},
		{"DELETE", "/metadata/user/..%2Fuser%2Famelia", "", gone},
		{"POST", "/mutes%2F", `{"username":"amelia","chat":1}`, gone},
		{"POST", "/messages%2Fusers", message("amelia", "bruno", "x"), gone},
		{"PUT", "/users/%61melia%2Fpassword", `{"newpassword":"x","nickname":"x"}`, gone},
		// Escaped twice it is no slash.
		{"GET", "/users/amelia%252Fstatus", "", gone},
		{"GET", "/users/%61melia%252Fstatus", "", gone},
	} {
		for _, path := range []string{c.path, strings.ReplaceAll(c.path, "%2F", "%2f")} {
			f.try(probe{name: c.method + " " + path, method: c.method, path: path, body: c.body, token: f.Token, want: c.want})
		}
	}
	nowhere := f.Server.HTTP + "/" + f.Org + "%2F" + f.Name + "/users/amelia"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, nowhere, nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+f.Token)
	resp, err := harness.API.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 404, resp.StatusCode)
	require.Equal(t, before, f.snapshot(), "an escaped slash did something")
	require.Equal(t, 200, f.call("POST", "/token", `{"grant_type":"inherit","username":"amelia"}`).Status, "nobody is banned")
}

// TestOddRequests sends what no HTTP library would: the server answers or
// closes, and serves others as before.
func TestOddRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t, harness.Start(t))
	host := strings.TrimPrefix(f.Server.HTTP, "http://")
	path := "/" + f.Org + "/" + f.Name + "/users"
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"two authorizations":             {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nonsense\r\nAuthorization: Bearer %s\r\n\r\n", path, f.Token), 401},
		"another scheme":                 {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\n\r\n", path, f.Token), 401},
		"a scheme alone":                 {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n\r\n", path), 401},
		"a long token":                   {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, strings.Repeat("x", 10_000)), 401},
		"too long a token":               {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, strings.Repeat("x", 100_000)), 431},
		"a bare percent":                 {fmt.Sprintf("GET %s/100%% HTTP/1.1\r\nHost: x\r\n\r\n", path), 400},
		"a broken escape":                {fmt.Sprintf("DELETE %s/%%zz HTTP/1.1\r\nHost: x\r\n\r\n", path), 400},
		"a broken escape of the app":     {"GET /acme/%z/users HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"a blank":                        {fmt.Sprintf("GET %s/a b HTTP/1.1\r\nHost: x\r\n\r\n", path), 400},
		"a request line of one word":     {"hello\r\n\r\n", 400},
		"a method that is none":          {fmt.Sprintf("G@T %s HTTP/1.1\r\nHost: x\r\n\r\n", path), 400},
		"no host":                        {fmt.Sprintf("GET %s HTTP/1.1\r\n\r\n", path), 400},
		"two hosts":                      {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", path), 400},
		"a header without a colon":       {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nhello\r\n\r\n", path), 400},
		"a header with a control byte":   {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n", path), 400},
		"two lengths":                    {fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", path), 400},
		"a length of letters":            {fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n{}", path), 400},
		"another transfer coding":        {fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", path), 501},
		"another version of HTTP":        {fmt.Sprintf("GET %s HTTP/3.7\r\nHost: x\r\n\r\n", path), 505},
		"an odd expectation":             {fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 2\r\n\r\n{}", path), 417},
		"a path of 100 KB":               {fmt.Sprintf("GET %s/%s HTTP/1.1\r\nHost: x\r\n\r\n", path, strings.Repeat("x", 100_000)), 431},
		"a header of 100 KB":             {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", path, strings.Repeat("x", 100_000)), 431},
		"an odd host":                    {fmt.Sprintf("GET %s HTTP/1.1\r\nHost: \"}\r\nAuthorization: Bearer %s\r\n\r\n", path, f.Token), 400},
		"a chunked body that breaks off": {fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", path, f.Token), 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", host)
			require.NoError(t, err)
			defer func() { _ = conn.Close() }()
			require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = io.WriteString(conn, c.request)
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			raw, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, c.status, resp.StatusCode, "%s", raw)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"), "%s", raw)
			require.Equal(t, "*", resp.Header.Get("Access-Control-Allow-Origin"))
			var body map[string]any
			require.NoError(t, json.Unmarshal(raw, &body), "%s", raw)
			for _, k := range []string{"error", "exception", "timestamp", "duration", "error_description"} {
				require.Contains(t, body, k)
			}
			switch c.status {
			case 400, 417, 431, 505:
				require.Equal(t, illegal, body["error"])
				require.Equal(t, invalid, body["error_description"])
			case 501:
				require.Equal(t, "unsupported_service_operation", body["error"])
			}
		})
	}
}
