package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
)

// App is an app of a server, with its token.
type App struct {
	Server       *Server
	Org, Name    string
	ClientID     string
	ClientSecret string
	Token        string
}

// appNumber tells apps of one test binary apart.
var appNumber atomic.Int64

// NoLimits are overrides that lift what slows a test down.
const NoLimits = `{"rate_counting":{"per_ip":false},"downstream":{"factor":null},"rules":{
	"send_message_users":{"limits":[{"count":100000000,"per":"minute","unit":"message","scope":"app"}]},
	"get_token":{"limits":[{"count":100000,"per":"second","unit":"call","scope":"app"}]},
	"client_send_message":{"limits":[{"count":1000000,"per":"second","unit":"message","scope":"app"}]},
	"client_send_receipt":{"limits":[{"count":1000000,"per":"second","unit":"call","scope":"app"}]}},
	"shared_buckets":{"register_users":{"limits":[{"count":100000,"per":"second","unit":"call","scope":"app"}]}}}`

// NewApp makes an app of a tier; overrides may be empty.
func (s *Server) NewApp(t testing.TB, tier, overrides string) *App {
	t.Helper()
	a := &App{Server: s, Org: "acme", Name: fmt.Sprintf("app-%d", appNumber.Add(1))}
	made, err := s.Admin().CreateApp(t.Context(), &limiterv1.CreateAppRequest{Org: a.Org, App: a.Name, Tier: tier, Registration: "authorized"})
	require.NoError(t, err)
	a.ClientID, a.ClientSecret = made.GetApp().GetClientId(), made.GetClientSecret()
	if overrides != "" {
		_, err := s.Admin().SetAppOverrides(t.Context(), &limiterv1.SetAppOverridesRequest{Org: a.Org, App: a.Name, Overrides: overrides, Actor: "test"})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		r := a.Call(t, http.MethodPost, "/token", map[string]any{
			"grant_type": "client_credentials", "client_id": a.ClientID, "client_secret": a.ClientSecret,
		}, "")
		a.Token, _ = r.Body["access_token"].(string)
		return r.Status == http.StatusOK
	}, 5*time.Second, 5*time.Millisecond, "the app is not in force")
	return a
}

// On gives the same app on another server, such as the one after a restart.
func (a *App) On(s *Server) *App {
	b := *a
	b.Server = s
	return &b
}

// Key is "org#app".
func (a *App) Key() string { return a.Org + "#" + a.Name }

// Response is an answer of the REST API.
type Response struct {
	Status int
	Header http.Header
	Body   map[string]any
	Raw    []byte
}

// API makes all calls of the REST API, over enough connections for parallel
// tests. A package may set its Transport before its tests run.
var API = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
}

// Call makes a REST call below the app's path with a token ("" for none). body
// is JSON text, something to marshal, or nil.
func (a *App) Call(t testing.TB, method, path string, body any, token string) Response {
	t.Helper()
	r, err := a.Try(t.Context(), method, path, body, token)
	require.NoError(t, err)
	return r
}

// Try is Call that gives back what went wrong on the way.
func (a *App) Try(ctx context.Context, method, path string, body any, token string) (Response, error) {
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			return Response{}, err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.Server.HTTP+"/"+a.Org+"/"+a.Name+path, in)
	if err != nil {
		return Response{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := API.Do(req)
	if err != nil {
		return Response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return Response{}, err
	}
	out := Response{Status: resp.StatusCode, Header: resp.Header, Raw: raw}
	if err := json.Unmarshal(raw, &out.Body); err != nil {
		return out, fmt.Errorf("%s %s answered %d with %q: %w", method, path, resp.StatusCode, raw, err)
	}
	return out, nil
}

// Register makes users without passwords, which cost their hashing.
func (a *App) Register(t testing.TB, users ...string) {
	t.Helper()
	for _, u := range users {
		a.UserToken(t, u)
	}
}

// UserToken gets a user's token, making the user if there is none.
func (a *App) UserToken(t testing.TB, user string) string {
	t.Helper()
	r := a.Call(t, http.MethodPost, "/token", map[string]any{"grant_type": "inherit", "username": user, "autoCreateUser": true}, a.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	return r.Body["access_token"].(string)
}

// Dial connects a device of a user.
func (a *App) Dial(t testing.TB, user string, opts msyncclient.Options) *msyncclient.Client {
	t.Helper()
	c, err := msyncclient.Dial(t.Context(), a.Server.WS, a.Key(), user, a.UserToken(t, user), opts)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
