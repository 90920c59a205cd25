package target

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/bench/internal/rawhttp"
	"github.com/chappe-im/chappe/pkg/tier"
)

func TestRaisedTierIsValid(t *testing.T) {
	t.Parallel()
	seeds, err := tier.Seeds()
	require.NoError(t, err)
	for _, seed := range seeds {
		before := string(seed.JSON())
		raised := raise(seed)
		parsed, err := tier.Parse(raised.JSON())
		require.NoError(t, err, "made from %s", seed.Name)
		require.Equal(t, TierName, parsed.Name)
		for id, r := range parsed.Rules {
			for _, l := range r.Limits {
				require.EqualValues(t, rate, l.Count, id)
			}
		}
		require.Equal(t, before, string(seed.JSON()), "the tier it is made from stays as it is")
	}
}

// fakeREST answers as the REST surface does, throttling every third call.
type fakeREST struct {
	mu    sync.Mutex
	calls int
	users map[string]bool
	sent  []map[string]any
}

func (f *fakeREST) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls%3 == 0 {
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"error":"reach_limit"}`)
		return
	}
	raw, _ := io.ReadAll(r.Body)
	path, ok := strings.CutPrefix(r.URL.Path, "/org/app/")
	if !ok {
		http.Error(w, `{"error":"organization_application_not_found"}`, http.StatusNotFound)
		return
	}
	var one map[string]any
	_ = json.Unmarshal(raw, &one)
	switch {
	case path == "token" && one["grant_type"] == "client_credentials":
		if one["client_secret"] != "secret" {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"app-token"}`)
	case r.Header.Get("Authorization") != "Bearer app-token":
		http.Error(w, `{"error":"unauthorized"}`, http.StatusUnauthorized)
	case path == "token":
		f.users[one["username"].(string)] = one["autoCreateUser"].(bool)
		_, _ = fmt.Fprintf(w, `{"access_token":"token of %s"}`, one["username"])
	case path == "messages/users":
		f.sent = append(f.sent, one)
		_, _ = io.WriteString(w, `{}`)
	}
}

func TestPreparing(t *testing.T) {
	t.Parallel()
	fake := &fakeREST{users: make(map[string]bool)}
	srv := httptest.NewServer(fake)
	defer srv.Close()
	cfg := Config{URL: srv.URL, App: "org/app", ClientID: "id", ClientSecret: "secret"}
	tg, err := New(t.Context(), cfg)
	require.NoError(t, err)
	defer tg.Close()
	require.Equal(t, "org#app", tg.AppKey())
	require.True(t, strings.HasSuffix(tg.WS(), "/ws"))

	names := make([]string, 130)
	for i := range names {
		names[i] = fmt.Sprintf("u%d", i)
	}
	tokens, err := tg.CreateUsers(t.Context(), names)
	require.NoError(t, err)
	require.Len(t, fake.users, 130)
	require.Equal(t, "token of u3", tokens[3])

	c := rawhttp.New(tg.Host(), 5*time.Second)
	defer c.Close()
	for range 3 { // at least one is not throttled
		_, err = c.Do(tg.SendRequest(), AppendTextBody(nil, "a", []string{"b", "c"}, []byte("text")))
		require.NoError(t, err)
	}
	require.Equal(t, map[string]any{
		"from": "a", "to": []any{"b", "c"}, "type": "txt", "body": map[string]any{"msg": "text"},
	}, fake.sent[0])

	cfg.ClientSecret = "wrong"
	_, err = New(t.Context(), cfg)
	require.ErrorContains(t, err, "invalid_grant")
	for _, bad := range []Config{{URL: "ftp://x", App: "a/b"}, {URL: srv.URL, App: "a"}} {
		_, err = New(t.Context(), bad)
		require.Error(t, err)
	}
}
