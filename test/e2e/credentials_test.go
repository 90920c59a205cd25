package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/pkg/msyncclient"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

// appToken asks for the app's token with its client ID and a secret.
func appToken(app *harness.App, secret string) map[string]any {
	return map[string]any{"grant_type": "client_credentials", "client_id": app.ClientID, "client_secret": secret}
}

// userToken asks for a user's token with a password.
func userToken(user, password string) map[string]any {
	return map[string]any{"grant_type": "password", "username": user, "password": password}
}

// tokenUse returns how much of the app's rate of tokens is used, admitted and
// refused.
func tokenUse(t *testing.T, app *harness.App) *limiterv1.RuleUsage {
	t.Helper()
	u, err := limiterv1.NewLimiterServiceClient(app.Server.Conn()).GetUsage(t.Context(), &limiterv1.GetUsageRequest{Org: app.Org, App: app.Name})
	require.NoError(t, err)
	for _, r := range u.GetRules() {
		if r.GetRule() == "get_token" {
			return r
		}
	}
	require.FailNow(t, "no rule")
	return nil
}

// withPassword registers a user who has one.
func withPassword(t *testing.T, app *harness.App, user, password string) {
	t.Helper()
	r := app.Call(t, http.MethodPost, "/users", []any{map[string]any{"username": user, "password": password}}, app.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
}

// TestTokensCannotBeUsedUpFromOutside has 24 connections hammer /token with all
// that can be wrong, and 8 more log in over the socket with tokens that are
// none. Meanwhile the app's own calls for tokens, close to its rate, and its
// sends, all pass, and a user who logged in before logs in again.
func TestTokensCannotBeUsedUpFromOutside(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	// A rate that the attack would use up many times over.
	app := s.NewApp(t, "free", `{"rules":{"get_token":{"limits":[{"count":30,"per":"second","unit":"call","scope":"app"}]}}}`)
	withPassword(t, app, "amelia", "right")
	withPassword(t, app, "victim", "right")
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/token", userToken("amelia", "right"), "").Status)

	ctx, stop := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	var answers [600]atomic.Int64
	var logins atomic.Int64
	for i := range 24 {
		attackers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				var body any
				switch i % 6 {
				case 0:
					body = appToken(app, "wrong")
				case 1:
					body = map[string]any{"grant_type": "client_credentials", "client_id": "nobody's", "client_secret": "x"}
				case 2:
					body = userToken("victim", "wrong")
				case 3:
					body = userToken(fmt.Sprintf("nobody-%d-%d", i, n), "x")
				case 4:
					body = `{"grant_type":"nonsense"}`
				default:
					body = `{`
				}
				r, err := app.Try(ctx, http.MethodPost, "/token", body, "")
				if err == nil {
					answers[r.Status].Add(1)
				}
			}
		})
	}
	for i := range 8 {
		attackers.Go(func() {
			for ctx.Err() == nil {
				c, err := msyncclient.Dial(ctx, s.WS, app.Key(), "victim", fmt.Sprint("no-token-", i), msyncclient.Options{})
				if err == nil {
					c.Close()
					t.Error("logged in with a token that is none")
					return
				}
				var refused *msyncclient.LoginError
				if errors.As(err, &refused) {
					logins.Add(1)
				}
			}
		})
	}

	// The attack is under way before anything is measured.
	require.Eventually(t, func() bool {
		return answers[http.StatusBadRequest].Load() > 60 && answers[http.StatusTooManyRequests].Load() > 60 && logins.Load() > 10
	}, 30*time.Second, 10*time.Millisecond)
	tick := time.NewTicker(time.Second / 20)
	defer tick.Stop()
	for i := range 60 {
		<-tick.C
		r := app.Call(t, http.MethodPost, "/token", appToken(app, app.ClientSecret), "")
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
		r = app.Call(t, http.MethodPost, "/messages/users", `{"to":["amelia"],"type":"txt","body":{"msg":"x"}}`, app.Token)
		require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
		if i%10 == 0 {
			r = app.Call(t, http.MethodPost, "/token", userToken("amelia", "right"), "")
			require.Equal(t, http.StatusOK, r.Status, "a user who logged in from here before: %s", r.Raw)
			app.UserToken(t, "bruno")
		}
	}
	stop()
	attackers.Wait()
	for status := range answers {
		if n := answers[status].Load(); n > 0 {
			t.Logf("%d answers of %d", n, status)
			require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound, http.StatusTooManyRequests}, status)
		}
	}
	t.Logf("%d refused logins", logins.Load())
	require.Zero(t, tokenUse(t, app).GetThrottledTotal(), "nothing was refused by the app's rate")
}

// TestWrongCredentialsCostTheAppNothing makes one of each wrong call and looks
// at what the app has used.
func TestWrongCredentialsCostTheAppNothing(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "free", "")
	withPassword(t, app, "amelia", "right")
	before := tokenUse(t, app).GetAdmittedTotal()
	used := func() int64 { return tokenUse(t, app).GetAdmittedTotal() - before }
	for name, body := range map[string]any{
		"wrong secret":       appToken(app, "wrong"),
		"wrong password":     userToken("amelia", "wrong"),
		"nobody":             userToken("nobody", "wrong"),
		"no name":            userToken("", "wrong"),
		"no password":        map[string]any{"grant_type": "password", "username": "amelia"},
		"no grant":           `{}`,
		"another grant":      `{"grant_type":"x"}`,
		"no JSON":            `{`,
		"a token for itself": `{"grant_type":"inherit","username":"amelia"}`,
	} {
		r := app.Call(t, http.MethodPost, "/token", body, "")
		require.GreaterOrEqual(t, r.Status, 400, name)
		require.Less(t, r.Status, 429, name)
		require.Zero(t, used(), name)
	}
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/token", appToken(app, app.ClientSecret), "").Status)
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/token", userToken("amelia", "right"), "").Status)
	require.Equal(t, int64(2), used(), "right ones count")
	// The app's back end itself is limited by the app's rate, nonsense included.
	app.Call(t, http.MethodPost, "/token", `{"grant_type":"x"}`, app.Token)
	app.UserToken(t, "amelia")
	require.Equal(t, int64(4), used())
}

// TestRightCredentialsAreLimited holds calls that succeed to the app's rate as
// before, although they are charged after the credential was looked at.
func TestRightCredentialsAreLimited(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "free", "")
	withPassword(t, app, "amelia", "right")
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/token", userToken("amelia", "right"), "").Status)
	override(t, app, `{"rules":{"get_token":{"limits":[{"count":20,"per":"minute","unit":"call","scope":"app"}]}}}`)
	for name, body := range map[string]any{"secret": appToken(app, app.ClientSecret), "password": userToken("amelia", "right")} {
		require.Eventually(t, func() bool {
			r := app.Call(t, http.MethodPost, "/token", body, "")
			if r.Status == http.StatusOK {
				return false
			}
			require.Equal(t, http.StatusTooManyRequests, r.Status)
			require.Equal(t, "reach_limit", r.Body["error"])
			require.NotEmpty(t, r.Header.Get("Retry-After"))
			require.NotContains(t, string(r.Raw), "access_token")
			return true
		}, 10*time.Second, time.Millisecond, name)
	}
	require.LessOrEqual(t, tokenUse(t, app).GetUsed(), int64(21))
}

// TestPasswordGuessesAreDelayed guesses at one user's password until it is told
// to wait. Even the right one is not looked at then; after the delay it is.
func TestPasswordGuessesAreDelayed(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "free", "")
	withPassword(t, app, "amelia", "right")
	try := func(user, password string) harness.Response {
		return app.Call(t, http.MethodPost, "/token", userToken(user, password), "")
	}
	for range 5 {
		r := try("amelia", "wrong")
		require.Equal(t, "invalid_grant", r.Body["error"], "%s", r.Raw)
	}
	for _, name := range []string{"amelia", "Amelia"} {
		r := try(name, "right")
		require.Equal(t, http.StatusTooManyRequests, r.Status, "%s", r.Raw)
		require.Equal(t, "reach_limit", r.Body["error"])
		require.Equal(t, "This request has reached api limit", r.Body["error_description"])
		require.Equal(t, "1", r.Header.Get("Retry-After"), "whole seconds")
	}
	// The app's back end has nothing to guess at, and is not kept waiting.
	r := app.Call(t, http.MethodPost, "/token", userToken("amelia", "right"), app.Token)
	require.Equal(t, http.StatusOK, r.Status, "%s", r.Raw)
	require.Eventually(t, func() bool { return try("amelia", "right").Status == http.StatusOK }, 10*time.Second, 50*time.Millisecond)
	require.Equal(t, "invalid_grant", try("amelia", "wrong").Body["error"], "and the count began anew")
}

// TestOldPasswordsAreGuarded guesses at the old password with the user's token.
func TestOldPasswordsAreGuarded(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "free", "")
	withPassword(t, app, "amelia", "right")
	token := app.UserToken(t, "amelia")
	change := func(old, token string) harness.Response {
		return app.Call(t, http.MethodPut, "/users/amelia/password", map[string]any{"oldpassword": old, "newpassword": "new"}, token)
	}
	for range 5 {
		require.Equal(t, http.StatusUnauthorized, change("wrong", token).Status)
	}
	require.Equal(t, http.StatusTooManyRequests, change("right", token).Status)
	require.Equal(t, http.StatusTooManyRequests, app.Call(t, http.MethodPost, "/token", userToken("amelia", "right"), "").Status)
	require.Equal(t, http.StatusOK, change("", app.Token).Status, "the app may always")
}

// TestSocketIsNoWayAround shows a password where the socket's login wants a
// token: it is compared with nothing.
func TestSocketIsNoWayAround(t *testing.T) {
	t.Parallel()
	s := harness.Start(t)
	app := s.NewApp(t, "free", "")
	withPassword(t, app, "amelia", "right")
	for _, token := range []string{"right", "$t$right", `{"token":"right"}`} {
		c, err := msyncclient.Dial(t.Context(), s.WS, app.Key(), "amelia", token, msyncclient.Options{})
		if err == nil {
			c.Close()
		}
		var refused *msyncclient.LoginError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, msyncv1.Status_FAIL, refused.Code)
		require.Equal(t, "Sorry, token or password does not match login info", refused.Reason)
	}
	require.Equal(t, http.StatusOK, app.Call(t, http.MethodPost, "/token", userToken("amelia", "right"), "").Status)
}

// TestGuessesAreCountedByWhereTheyComeFrom guesses through a proxy. Where that
// is trusted, one guesser's address is delayed and no other; where it is not,
// made-up addresses give nobody more tries.
func TestGuessesAreCountedByWhereTheyComeFrom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		proxies []string
		// from gives the address of the n-th guess.
		from func(n int) string
		// other is somebody else's address, who is delayed or not.
		other   string
		delayed bool
	}{
		"a trusted proxy":               {[]string{"127.0.0.0/8"}, func(int) string { return "203.0.113.66" }, "192.0.2.1", false},
		"one IPv6 network":              {[]string{"127.0.0.0/8"}, func(n int) string { return fmt.Sprintf("2001:db8:1:2::%x", n+1) }, "2001:db8:1:3::1", false},
		"the same IPv6 network":         {[]string{"127.0.0.0/8"}, func(n int) string { return fmt.Sprintf("2001:db8:1:2::%x", n+1) }, "2001:db8:1:2:ffff::1", true},
		"a proxy that nobody named":     {nil, func(n int) string { return fmt.Sprintf("203.0.113.%d", n) }, "192.0.2.1", true},
		"addresses in front of a proxy": {[]string{"127.0.0.0/8"}, func(n int) string { return fmt.Sprintf("10.0.0.%d, 203.0.113.66", n) }, "192.0.2.1, 203.0.113.66", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			app := harness.StartWith(t, func(cfg *run.Config) { cfg.TrustedProxies = c.proxies }).NewApp(t, "free", "")
			withPassword(t, app, "amelia", "right")
			try := func(from, password string) int {
				body, err := json.Marshal(userToken("amelia", password))
				require.NoError(t, err)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, app.Server.HTTP+"/"+app.Org+"/"+app.Name+"/token", bytes.NewReader(body))
				require.NoError(t, err)
				req.Header.Set("X-Forwarded-For", from)
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				return resp.StatusCode
			}
			// Until a guess was refused, and one that was not has begun the next
			// delay, of two seconds or more.
			refused, last := 0, 0
			for n := 0; refused == 0 || last == http.StatusTooManyRequests; n++ {
				require.Less(t, n, 10_000)
				if last = try(c.from(n%250), "wrong"); last == http.StatusTooManyRequests {
					refused++
				}
			}
			want := http.StatusOK
			if c.delayed {
				want = http.StatusTooManyRequests
			}
			require.Equal(t, want, try(c.other, "right"))
		})
	}
}
