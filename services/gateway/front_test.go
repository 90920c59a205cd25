package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/token"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	limiterv1 "github.com/chappe-im/chappe/proto/gen/chappe/limiter/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/gateway"
)

func metricSum(t *testing.T, r *rig, name string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				if f.GetType() == dto.MetricType_COUNTER {
					sum += m.GetCounter().GetValue()
				} else {
					sum += m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

// TestLeniency sends what clients in the field send.
func TestLeniency(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(sendUsers, &messagingv1.SendToUsersResponse{}, nil)
	r.answer(accountv1.UserService_DeactivateUser_FullMethodName, &accountv1.DeactivateUserResponse{User: amelia()}, nil)
	r.answer(accountv1.AttributeService_SetUserAttributes_FullMethodName, &accountv1.SetUserAttributesResponse{}, nil)
	const good = `{"to":["a"],"type":"txt","body":{"msg":"x"}}`
	for _, contentType := range []string{
		"", "application/json", "application/json; charset=utf-8", "application/json;charset=GBK", "Application/JSON",
		"application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=UTF-8",
	} {
		got := r.do(request{method: "POST", path: "/acme/chat/messages/users", body: good, header: map[string]string{"Content-Type": contentType, "Accept": "text/html"}})
		require.Equal(t, 200, got.status, "%q: %s", contentType, got.text)
	}
	for _, contentType := range []string{"", "text/xml", "multipart/form-data; boundary=x"} {
		got := r.do(request{method: "POST", path: "/acme/chat/users/amelia/deactivate", header: map[string]string{"Content-Type": contentType}})
		require.Equal(t, 200, got.status, "without a body its label does not matter: %q: %s", contentType, got.text)
	}
	for _, c := range []struct{ contentType, body string }{
		{"application/x-www-form-urlencoded", "a=1"},
		{"application/x-www-form-urlencoded;charset=UTF-8", "a=1"},
		{"application/json", `{"a":"1"}`},
		{"application/x-www-form-urlencoded", `{"a":"1"}`},
		{"", "a=1"},
		{"", `{"a":"1"}`},
	} {
		got := r.do(request{method: "PUT", path: "/acme/chat/metadata/user/amelia", body: c.body, header: map[string]string{"Content-Type": c.contentType}})
		require.Equal(t, 200, got.status, "%v: %s", c, got.text)
		require.Equal(t, map[string]string{"a": "1"}, last[*accountv1.SetUserAttributesRequest](t, r.backend).GetAttributes(), "%v", c)
	}
	r.do(request{method: "PUT", path: "/acme/chat/metadata/user/amelia", body: "a=1", header: map[string]string{"Content-Type": "application/json"}}).fails(t, 400, "json_parse", "")
	r.do(request{method: "PUT", path: "/acme/chat/metadata/user/amelia", body: "<a/>", header: map[string]string{"Content-Type": "text/xml"}}).fails(t, 415, "web_application", "")
}

func TestPathsAreDecoded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(accountv1.UserService_GetUser_FullMethodName, &accountv1.GetUserResponse{User: amelia()}, nil)
	require.Equal(t, 200, r.do(request{method: "GET", path: "/acme/chat/users/a%6delia"}).status)
	require.Equal(t, "amelia", last[*accountv1.GetUserRequest](t, r.backend).GetUsername())
	// They are decoded once.
	for segment, name := range map[string]string{"a%252Fb": "a%2Fb", "%61%252Fb": "a%2Fb", "a%3A%C3%BC": "a:ü", "a%25ffb": "a%ffb", "a+b": "a+b", "a%2Cb;c": "a,b;c"} {
		require.Equal(t, 200, r.do(request{method: "GET", path: "/acme/chat/users/" + segment}).status, segment)
		require.Equal(t, name, last[*accountv1.GetUserRequest](t, r.backend).GetUsername(), segment)
	}
	// No name has a slash, so a segment with one is that of nothing.
	calls := r.count()
	for _, segment := range []string{"a%2Fb", "%61%2fb%2E", "%61%252Fb%2F", "%2F", "a%2Fb%3A%C3%BC", "a%25ffb%2f"} {
		r.do(request{method: "GET", path: "/acme/chat/users/" + segment}).fails(t, 404, "service_resource_not_found", "")
	}
	r.do(request{method: "DELETE", path: "/acme/chat/users/"}).fails(t, 404, "service_resource_not_found", "")
	require.Equal(t, calls, r.count(), "no service was called")
	require.Equal(t, 200, r.do(request{method: "GET", path: "/acme/chat/users/amelia/"}).status, "what is read may end in a slash")
}

// TestMetadata makes sure that services hear nothing from callers that the
// gateway does not say.
func TestMetadata(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(sendUsers, &messagingv1.SendToUsersResponse{}, nil)
	r.answer(accountv1.UserService_GetUser_FullMethodName, &accountv1.GetUserResponse{User: amelia()}, nil)
	spoof := map[string]string{"Grpc-Metadata-Chappe-Source": "client", "Grpc-Timeout": "1n", "Chappe-Source": "client", "Cookie": "a=b"}
	require.Equal(t, 200, r.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{"to":["a"]}`, header: spoof}).status)
	require.Equal(t, metadata.Pairs("chappe-source", "rest"), r.metadata)
	require.Equal(t, 200, r.do(request{method: "GET", path: "/acme/chat/users/a", header: spoof}).status)
	require.Empty(t, r.metadata)
}

// TestStrangersSpendNothing makes calls that are refused for their caller: no
// service hears of them, the limiter does not either, and their bodies are not
// looked at.
func TestStrangersSpendNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, path := range []string{"/users/amelia/password", "/messages/users", "/mutes", "/sdk/user/amelia/blocks"} {
		for _, bearer := range []string{"-", "nonsense", sign(r.open, token.App, ""), r.userToken("bruno")} {
			for _, body := range []string{`{}`, `no JSON`} {
				got := r.do(request{method: "POST", path: "/acme/chat" + path, body: body, token: bearer})
				require.Equal(t, 401, got.status, "%s: %s", path, got.text)
			}
		}
	}
	for _, body := range []string{`{"username":"x"}`, `[]`} {
		require.Equal(t, 401, r.do(request{method: "POST", path: "/acme/chat/users", body: body, token: "-"}).status)
	}
	require.Zero(t, r.count())
	require.Empty(t, r.admitted())
}

// TestWhatTheGatewaySays looks at the fields that tell a service who called.
func TestWhatTheGatewaySays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(accountv1.UserService_RegisterUsers_FullMethodName, &accountv1.RegisterUsersResponse{}, nil)
	r.answer(accountv1.UserService_ChangePassword_FullMethodName, &accountv1.ChangePasswordResponse{}, nil)
	single := `{"username":"amelia","anonymous":false}`
	r.do(request{method: "POST", path: "/acme/open/users", body: single, token: "-"})
	require.True(t, last[*accountv1.RegisterUsersRequest](t, r.backend).GetAnonymous())
	r.do(request{method: "POST", path: "/acme/open/users", body: single, token: sign(r.open, token.App, "")})
	require.False(t, last[*accountv1.RegisterUsersRequest](t, r.backend).GetAnonymous())
	for _, c := range []struct {
		token string
		check bool
	}{{"", false}, {r.userToken("amelia"), true}} {
		r.do(request{method: "PUT", path: "/acme/chat/users/amelia/password", body: `{"newpassword":"n","check_old":false}`, token: c.token})
		require.Equal(t, c.check, last[*accountv1.ChangePasswordRequest](t, r.backend).GetCheckOld())
	}
}

// TestTokenExpiry asks when a token ends: the gateway passes on what it read in
// the token, whatever the caller says.
func TestTokenExpiry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(accountv1.TokenService_GetTokenExpiry_FullMethodName, &accountv1.GetTokenExpiryResponse{}, nil)
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, expires := range map[string]time.Time{"an hour": ends, "never": {}} {
		raw := token.Sign(r.app.Keys[0], token.Claims{Kind: token.User, App: r.app.Number, User: "amelia", IssuedAt: time.Now(), ExpiresAt: expires})
		got := r.do(request{method: "GET", path: "/acme/chat/sdk/users/Amelia/token/expires?expires_at=7&expiresAt=7", token: raw})
		require.Equal(t, 200, got.status, "%s: %s", name, got.text)
		want := int64(0)
		if !expires.IsZero() {
			want = expires.UnixMilli()
		}
		require.Equal(t, want, last[*accountv1.GetTokenExpiryRequest](t, r.backend).GetExpiresAt(), name)
	}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(sendUsers, &messagingv1.SendToUsersResponse{}, nil)
	decide := func(resp *limiterv1.CheckResponse, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.check = func(*limiterv1.CheckRequest) (*limiterv1.CheckResponse, error) { return resp, err }
	}
	call := func(body string) reply {
		return r.do(request{method: "POST", path: "/acme/chat/messages/users", body: body})
	}

	decide(&limiterv1.CheckResponse{Allowed: true, Limit: 100, Remaining: 98}, nil)
	got := call(`{"to":["a","A","b"]}`)
	require.Equal(t, 200, got.status)
	require.Empty(t, got.header.Get("X-RateLimit-Limit"), "headers go with limited answers only")
	require.Equal(t, int64(2), r.admitted()[0].GetCost())

	require.Empty(t, r.admitted()[0].GetUser(), "an app token calls for nobody")

	many := make([]string, 600)
	for i := range many {
		many[i] = `"user-` + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + `"`
	}
	distinct := make(map[string]bool)
	for _, m := range many {
		distinct[m] = true
	}
	require.Equal(t, 200, call(`{"to":[`+strings.Join(many, ",")+`]}`).status)
	require.Equal(t, int64(len(distinct)), r.admitted()[1].GetCost())

	decide(&limiterv1.CheckResponse{Limit: 6000, Remaining: 3, RetryAfterMs: 1200, ResetAfterMs: 60000, Reason: "rate"}, nil)
	calls := r.count()
	for _, body := range []string{`{"to":["a"]}`, `not JSON`} {
		got = call(body)
		got.fails(t, 403, "message_send_error", "message send reach limit")
		require.Equal(t, "2", got.header.Get("Retry-After"))
		require.Equal(t, "6000", got.header.Get("X-Ratelimit-Limit"))
		require.Equal(t, "3", got.header.Get("X-Ratelimit-Remaining"))
		require.Equal(t, "60", got.header.Get("X-Ratelimit-Reset"))
	}
	decide(&limiterv1.CheckResponse{Reason: "backlog", RetryAfterMs: 1}, nil)
	got = call(`{"to":["a"]}`)
	got.fails(t, 403, "message_send_error", "message send reach limit")
	require.Equal(t, "1", got.header.Get("Retry-After"))
	decide(&limiterv1.CheckResponse{Reason: "too_costly"}, nil)
	call(`{"to":["a"]}`).fails(t, 400, "illegal_argument", "the call costs more than its limit ever allows")
	require.Equal(t, calls, r.count(), "a limited call changes nothing")

	require.Zero(t, metricSum(t, r, "chappe_gateway_unlimited_calls_total"))
	for path, counted := range map[string]string{
		"/users/Ben/contacts/users": "ben", "/users/" + strings.Repeat("x", 300) + "/contacts/users": strings.Repeat("x", 128),
	} {
		r.do(request{method: "GET", path: "/acme/chat" + path})
		checks := r.admitted()
		require.Equal(t, counted, checks[len(checks)-1].GetUser(), "calls about a user count for that user")
	}

	decide(nil, errors.New("the limiter is broken"))
	require.Equal(t, 200, call(`{"to":["a"]}`).status)
	require.InDelta(t, 1, metricSum(t, r, "chappe_gateway_unlimited_calls_total"), 0)
}

// TestClientIP tells whom the limiter counts, whatever a caller claims.
func TestClientIP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		trusted   []string
		forwarded string
		want      string
	}{
		{"nobody is trusted", nil, "1.2.3.4", "127.0.0.1"},
		{"somebody else is trusted", []string{"10.0.0.0/8"}, "1.2.3.4", "127.0.0.1"},
		{"the peer is trusted", []string{"127.0.0.0/8"}, "1.2.3.4", "1.2.3.4"},
		{"only the last hop counts", []string{"127.0.0.0/8"}, "9.9.9.9, 1.2.3.4", "1.2.3.4"},
		{"a chain of proxies", []string{"127.0.0.0/8", "10.0.0.0/8"}, "9.9.9.9,1.2.3.4, 10.1.1.1,10.1.1.2", "1.2.3.4"},
		{"all are proxies", []string{"127.0.0.0/8", "10.0.0.0/8"}, "10.1.1.1, 10.1.1.2", "10.1.1.1"},
		{"nonsense left of a proxy", []string{"127.0.0.0/8", "10.0.0.0/8"}, "1.2.3.4, unknown, 10.1.1.2", "10.1.1.2"},
		{"nothing", []string{"127.0.0.0/8"}, "", "127.0.0.1"},
		{"with ports", []string{"127.0.0.0/8"}, "[2001:db8::1]:443", "2001:db8::1"},
		{"mapped", []string{"127.0.0.0/8"}, "::ffff:1.2.3.4", "1.2.3.4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, trusting(c.trusted...))
			r.answer(sendUsers, &messagingv1.SendToUsersResponse{}, nil)
			h := map[string]string{}
			if c.forwarded != "" {
				h["X-Forwarded-For"] = c.forwarded
			}
			require.Equal(t, 200, r.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{"to":["a"]}`, header: h}).status)
			require.Equal(t, c.want, r.admitted()[0].GetIp())
		})
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	forwarded := map[string]string{"Host": `im.example.com`, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "public.example.com"}
	for want, change := range map[string]func(*gateway.Config, *gateway.Deps){
		"http://im.example.com/acme/chat/users":      trusting(),
		"https://public.example.com/acme/chat/users": trusting("127.0.0.1/32"),
	} {
		r := newRig(t, change)
		r.answer(accountv1.UserService_ListUsers_FullMethodName, &accountv1.ListUsersResponse{}, nil)
		require.Equal(t, want, r.do(request{method: "GET", path: "/acme/chat/users?limit=3", header: forwarded}).body["uri"])
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seen := make(map[string]bool)
	for _, id := range []string{"", "abc-123_X.y:z", strings.Repeat("x", 64), strings.Repeat("x", 65), "a b", `"><`} {
		got := r.do(request{method: "GET", path: "/", header: map[string]string{"X-Request-Id": id}}).header.Get("X-Request-Id")
		if id == "abc-123_X.y:z" || len(id) == 64 {
			require.Equal(t, id, got)
		} else {
			require.NotEqual(t, id, got)
		}
		require.False(t, seen[got])
		seen[got] = true
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, asked := range []string{"authorization", "restrict-access, authorization", "x-requested-with, share-secret, authorization", "content-type,x-anything"} {
		got := r.do(request{method: "OPTIONS", path: "/acme/chat/chatfiles", token: "-", header: map[string]string{
			"Origin": "https://app.example.com", "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": asked,
		}})
		require.Equal(t, 200, got.status)
		require.Equal(t, asked, got.header.Get("Access-Control-Allow-Headers"))
		for _, m := range []string{"GET", "POST", "PUT", "DELETE"} {
			require.Contains(t, got.header.Get("Access-Control-Allow-Methods"), m)
		}
	}
	got := r.do(request{method: "OPTIONS", path: "/", token: "-", header: map[string]string{"Access-Control-Request-Headers": "bad<header>"}})
	require.NotContains(t, got.header.Get("Access-Control-Allow-Headers"), "bad")
	require.Contains(t, got.header.Get("Access-Control-Allow-Headers"), "Authorization")
}

// TestLargeAnswers reads an answer that does not fit one buffer.
func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	names := make([]string, 50_000)
	for i := range names {
		names[i] = "user-with-a-name"
	}
	r.answer(accountv1.RelationService_ListContacts_FullMethodName, &accountv1.ListContactsResponse{Usernames: names}, nil)
	for range 3 {
		got := r.do(request{method: "GET", path: "/acme/chat/users/amelia/contacts/users"})
		require.Len(t, got.body["data"], len(names))
		require.InDelta(t, len(names), got.body["count"], 0)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(sendUsers, &messagingv1.SendToUsersResponse{}, nil)
	r.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{"to":["a"]}`})
	r.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{`})
	r.do(request{method: "GET", path: "/made/up/path"})
	require.Eventually(t, func() bool { return metricSum(t, r, "chappe_gateway_http_requests_total") == 3 }, 5*time.Second, time.Millisecond)
	families, err := r.reg.Gather()
	require.NoError(t, err)
	labels := make(map[string]bool)
	for _, f := range families {
		if f.GetName() == "chappe_gateway_http_requests_total" {
			for _, m := range f.GetMetric() {
				if m.GetCounter().GetValue() == 0 {
					continue
				}
				var s []string
				for _, l := range m.GetLabel() {
					s = append(s, l.GetValue())
				}
				labels[strings.Join(s, " ")] = true
			}
		}
	}
	require.Equal(t, map[string]bool{
		"200 POST /{org}/{app}/messages/users": true, "400 POST /{org}/{app}/messages/users": true, "404 GET none": true,
	}, labels)
}

// TestStopDrains stops a gateway with a request in flight: it is answered, and
// nothing more is accepted.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	var g *gateway.Gateway
	var err error
	entered, release := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(_ *gateway.Config, d *gateway.Deps) {
		g, err = gateway.New(t.Context(), gateway.Config{Listen: "127.0.0.1:0"}, *d)
		require.NoError(t, err)
		d.Registerer = newRegistry()
	})
	r.answerFunc(sendUsers, func(context.Context, proto.Message) (proto.Message, error) {
		close(entered)
		<-release
		return &messagingv1.SendToUsersResponse{}, nil
	})
	require.NoError(t, g.Start(t.Context()))
	require.Error(t, g.Start(t.Context()))
	addr := g.Addr()
	answered := make(chan int, 1)
	go func() {
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+addr+"/acme/chat/messages/users", strings.NewReader(`{"to":["a"]}`))
		req.Header.Set("Authorization", "Bearer "+r.appToken())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			answered <- 0
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop(context.Background()) }()
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + addr + "/")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	close(release)
	require.Equal(t, 200, <-answered)
	require.NoError(t, <-stopped)
	require.NoError(t, g.Stop(context.Background()), "a second stop does nothing")
}

func TestWebSocketPaths(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *gateway.Config, d *gateway.Deps) {
		d.WebSocket = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, hijack := w.(http.Hijacker)
			require.True(t, hijack)
			_, _ = io.WriteString(w, "socket "+req.URL.Path)
		})
	})
	for _, path := range []string{"/ws", "/websocket"} {
		resp, err := http.Get(r.url + path)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, "socket "+path, string(b))
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	require.Error(t, gateway.Config{}.Validate())
	require.Error(t, gateway.Config{Listen: "x", MaxBodyBytes: -1}.Validate())
	require.Error(t, gateway.Config{Listen: "x", CallTimeout: -1}.Validate())
	require.NoError(t, gateway.Config{Listen: "x"}.Validate())
}
