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

	"github.com/chappe-im/chappe/pkg/msyncclient"
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
		{"GET", "/users/", gone},
		{"GET", "/users//status", gone},
		{"POST", "/users//deactivate", gone},
		{"DELETE", "/users/", gone},
		{"DELETE", "/users//contacts/users/bruno", gone},
		{"DELETE", "//users", gone},
		{"GET", "/users/amelia/", gone},
		{"GET", "/users/amelia/status/", gone},
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
		{"POST", "/users/amelia/presence/", unfit},
		{"GET", "/mutes/", noProperty},
		{"GET", "/metadata/user/", gone},
		{"DELETE", "/metadata/user/", gone},
		{"PUT", "/metadata/user/", unfit},
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
		{"PUT", "/users/amelia%2Fpassword", `{"newpassword":"x","nickname":"x"}`, noProperty},
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
		{"DELETE", "/metadata/user/..%2Fuser%2Famelia", "", taken}, // nobody has the attributes of that user
		{"POST", "/mutes%2F", `{"username":"amelia","chat":1}`, gone},
		{"POST", "/messages%2Fusers", message("amelia", "bruno", "x"), gone},
		{"PUT", "/users/%61melia%2Fpassword", `{"newpassword":"x","nickname":"x"}`, noProperty},
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

// TestSlashInASegment disconnects a device whose name has a slash.
func TestSlashInASegment(t *testing.T) {
	t.Parallel()
	f := newFixture(t, harness.Start(t))
	phone, desk := f.Dial(t, "amelia", msyncclient.Options{Resource: "ios/1"}), f.Dial(t, "amelia", msyncclient.Options{Resource: "ios"})
	require.Equal(t, 200, f.call("GET", "/users/amelia/disconnect/ios%2F1", "").Status)
	select {
	case <-phone.Done():
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the device is still connected")
	}
	select {
	case <-desk.Done():
		require.FailNow(t, "another device was disconnected")
	default:
	}
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
			if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
				var body map[string]any
				require.NoError(t, json.Unmarshal(raw, &body), "%s", raw)
				require.NotEmpty(t, body["error_description"])
			}
		})
	}
}
