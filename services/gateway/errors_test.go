package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/chappe-im/chappe/pkg/catalog"
	"github.com/chappe-im/chappe/pkg/errs"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	messagingv1 "github.com/chappe-im/chappe/proto/gen/chappe/messaging/v1"
	"github.com/chappe-im/chappe/services/gateway"
)

const sendUsers = messagingv1.MessagingService_SendToUsers_FullMethodName

func TestRoutingErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, c := range []struct {
		name, method, path string
		status             int
		error, description string
		allow              string
	}{
		{name: "root", method: "GET", path: "/", status: 404, error: "service_resource_not_found", description: "Service resource not found"},
		{name: "unknown path", method: "GET", path: "/acme/chat/nothing", status: 404, error: "service_resource_not_found", description: "Service resource not found"},
		{
			name: "unknown app", method: "GET", path: "/acme/shop/users/amelia", status: 404, error: "organization_application_not_found",
			description: "Could not find application for acme/shop from URI: acme/shop/users/amelia",
		},
		{
			name: "unknown app, unknown path", method: "POST", path: "/no/such/thing?x=1", status: 404, error: "organization_application_not_found",
			description: "Could not find application for no/such from URI: no/such/thing",
		},
		{
			name: "wrong method", method: "PATCH", path: "/acme/chat/users", status: 405, error: "unsupported_service_operation",
			description: "Service operation not supported", allow: "DELETE, GET, POST, OPTIONS",
		},
		{name: "wrong method, one of several patterns", method: "GET", path: "/acme/chat/metadata/user/get/x", status: 404, error: "service_resource_not_found"},
		{name: "wrong method on a longer path", method: "DELETE", path: "/acme/chat/users/a/password", status: 405, error: "unsupported_service_operation", allow: "POST, PUT, OPTIONS"},
		{name: "an override is not looked at", method: "GET", path: "/acme/chat/messages/users", status: 405, error: "unsupported_service_operation", allow: "POST, OPTIONS"},
		{name: "path is no UTF-8", method: "GET", path: "/acme/chat/users/%ff", status: 400, error: "illegal_argument", description: errs.MessageInvalidRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := r.do(request{method: c.method, path: c.path, token: "-", header: map[string]string{"X-HTTP-Method-Override": "POST"}})
			got.fails(t, c.status, c.error, c.description)
			if c.allow != "" {
				require.Equal(t, c.allow, got.header.Get("Allow"))
			}
		})
	}
	require.Empty(t, r.admitted(), "what reaches no route is not charged")
	require.Zero(t, r.count())
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config, _ *gateway.Deps) { c.MaxBodyBytes = 1000 })
	const path = "/acme/chat/messages/users"
	const good = `{"to":["a"],"type":"txt","body":{"msg":"x"}}`
	for _, c := range []struct {
		name, body, contentType string
		chunked                 bool
		status                  int
		error, description      string
		uncharged               bool
	}{
		{
			name: "no JSON", body: `{"to":[}`, status: 400, error: "invalid_request_body",
			description: "Request body is invalid. Please check body is correct.",
		},
		{name: "array", body: `[]`, status: 400, error: "invalid_request_body"},
		{name: "wrong type", body: `{"to":"a"}`, status: 400, error: "invalid_request_body"},
		{name: "XML", body: "<a/>", contentType: "text/xml", status: 415, error: "web_application", description: "Unsupported Media Type"},
		{name: "multipart", body: good, contentType: "multipart/form-data; boundary=x", status: 415, error: "web_application", description: "Unsupported Media Type"},
		{name: "nonsense label", body: good, contentType: ";;;", status: 415, error: "web_application"},
		{name: "announced too large", body: strings.Repeat(" ", 1001), status: 413, error: "Request Entity Too Large", description: "Request Entity Too Large", uncharged: true},
		{name: "too large", body: strings.Repeat(" ", 1001), chunked: true, status: 413, error: "Request Entity Too Large", description: "Request Entity Too Large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(r.admitted())
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+path, strings.NewReader(c.body))
			require.NoError(t, err)
			if c.chunked {
				req.ContentLength = -1
			}
			req.Header.Set("Authorization", "Bearer "+r.appToken())
			if c.contentType != "" {
				req.Header.Set("Content-Type", c.contentType)
			}
			send(t, req).fails(t, c.status, c.error, c.description)
			charged := r.admitted()[before:]
			if c.uncharged {
				require.Empty(t, charged)
				return
			}
			require.Len(t, charged, 1, "nonsense costs one unit")
			require.Equal(t, "send_message_users", charged[0].GetRule())
			require.Equal(t, int64(1), charged[0].GetCost())
		})
	}
	require.Zero(t, r.count(), "no service was called")
}

func TestQueryErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(accountv1.UserService_ListUsers_FullMethodName, &accountv1.ListUsersResponse{}, nil)
	for _, q := range []string{"limit=abc", "limit=1.5", "limit=99999999999", "limit=%zz", "cursor=%ff"} {
		r.do(request{method: "GET", path: "/acme/chat/users?" + q}).fails(t, 400, "illegal_argument", errs.MessageInvalidRequest)
	}
	require.Zero(t, r.count())
	require.Len(t, r.admitted(), 5)
	for _, q := range []string{"org=x&app=y&limit=3", "limit=7&limit=3", "x.y=1&limit[a]=2&limit=3", "Limit=9&limit=3"} {
		require.Equal(t, 200, r.do(request{method: "GET", path: "/acme/chat/users?" + q}).status)
		require.True(t, proto.Equal(&accountv1.ListUsersRequest{Org: "acme", App: "chat", Limit: proto.Int32(3)}, last[*accountv1.ListUsersRequest](t, r.backend)), q)
	}
	// A query cannot say what the gateway says.
	r.answer(accountv1.UserService_DeactivateUser_FullMethodName, &accountv1.DeactivateUserResponse{User: amelia()}, nil)
	require.Equal(t, 200, r.do(request{method: "POST", path: "/acme/chat/users/a/deactivate?username=b&org=x"}).status)
	require.Equal(t, "a", last[*accountv1.DeactivateUserRequest](t, r.backend).GetUsername())
}

// TestServiceErrors maps what services answer.
func TestServiceErrors(t *testing.T) {
	t.Parallel()
	retry := errs.RateLimited(1500 * time.Millisecond)
	for _, c := range []struct {
		name        string
		err         error
		status      int
		error       string
		description string
	}{
		{"invalid", errs.Invalid("from can't be empty"), 400, "illegal_argument", "from can't be empty"},
		{"grant", errs.InvalidReason(errs.ReasonInvalidGrant, "client_id does not match"), 400, "invalid_grant", "client_id does not match"},
		{"duplicate", errs.New(codes.AlreadyExists, errs.ReasonDuplicate, "exists"), 400, "duplicate_unique_property_exists", "exists"},
		{"required property", errs.New(codes.NotFound, errs.ReasonRequiredProperty, "Entity user requires a property named username"), 400, "required_property_not_found", "Entity user requires a property named username"},
		{"too large", errs.TooLarge(), 413, "Request Entity Too Large", "Request Entity Too Large"},
		{"not found", errs.NotFound(), 404, "service_resource_not_found", "Service resource not found"},
		{"forbidden", errs.Forbidden("message recall service is unopened"), 403, "forbidden_op", "message recall service is unopened"},
		{"unauthenticated", errs.Unauthenticated(errs.ReasonUnauthorized, "no"), 401, "unauthorized", "no"},
		{"quota", errs.QuotaExceeded("users"), 429, "resource_limited", "You have exceeded the limit of the community edition,Please upgrade to the enterprise edition"},
		{"backlog", retry, 429, "reach_limit", "This request has reached api limit"},
		{"app gone meanwhile", errs.AppNotFound("acme", "chat"), 404, "organization_application_not_found", "Could not find application for acme/chat from URI: acme/chat/messages/users"},
		{"unavailable", errs.Unavailable("the message log", errors.New("secret cause")), 503, "service_unavailable", "the message log is unavailable"},
		{"deadline", context.DeadlineExceeded, 504, "deadline_exceeded", "the operation took too long"},
		{"out of range", errs.New(codes.OutOfRange, "", "past the end"), 400, "internal_error", "past the end"},
		{"aborted", status.Error(codes.Aborted, "secret"), 500, "internal_error", "internal error"},
		{"not built", status.Error(codes.Unimplemented, "nothing here"), 501, "unsupported_service_operation", ""},
		{"unknown", errors.New("secret cause"), 500, "internal_error", "internal error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.answer(sendUsers, nil, c.err)
			got := r.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{"to":["a"]}`})
			got.fails(t, c.status, c.error, c.description)
			require.NotContains(t, got.text, "secret")
			if c.name == "backlog" {
				require.Equal(t, "2", got.header.Get("Retry-After"))
			}
		})
	}
}

// TestPanics lets a service answer with what the renderer cannot take, and a
// service panic by itself.
func TestPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answerFunc(sendUsers, func(context.Context, proto.Message) (proto.Message, error) { panic("service") })
	r.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{"to":["a"]}`}).fails(t, 500, "internal_error", "internal error")

	p := newRig(t, func(_ *gateway.Config, d *gateway.Deps) { d.Apps = panicking{d.Apps.(apps)} })
	p.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{"to":["a"]}`}).fails(t, 500, "internal_error", "internal error")
	got := metricSum(t, p, "chappe_gateway_http_panics_total")
	require.InDelta(t, 1, got, 0)
}

type panicking struct{ apps }

func (panicking) App(string, string) (*catalog.App, bool) { panic("catalog") }

// TestDeadlines cuts calls off that take too long.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config, _ *gateway.Deps) { c.CallTimeout = 20 * time.Millisecond })
	r.answerFunc(sendUsers, func(ctx context.Context, _ proto.Message) (proto.Message, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	r.do(request{method: "POST", path: "/acme/chat/messages/users", body: `{"to":["a"]}`}).fails(t, 504, "deadline_exceeded", "")
}

// TestSlowBody gives up on a body that does not come.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *gateway.Config, _ *gateway.Deps) { c.ReadTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.Write([]byte("POST /acme/chat/messages/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + r.appToken() + "\r\nContent-Length: 10\r\n\r\n{"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	var answer bytes.Buffer
	_, err = answer.ReadFrom(conn)
	require.NoError(t, err)
	require.Contains(t, answer.String(), "HTTP/1.1 408 ")
	require.Contains(t, answer.String(), `"error":"request_timeout"`)
}

// TestUserNotFoundIsNamed makes sure that client SDKs tell a missing user from
// other failures: beside the text they look at the exception.
func TestUserNotFoundIsNamed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer(accountv1.RelationService_RequestContacts_FullMethodName, nil, errs.NotFound())
	got := r.do(request{method: "POST", path: "/acme/chat/users/amelia/contacts/apply", body: `{"usernames":["nobody"]}`, token: r.userToken("amelia")})
	got.fails(t, 404, "service_resource_not_found", "Service resource not found")
	require.Equal(t, "UserNotFoundException", got.body["exception"])
	got = r.do(request{method: "POST", path: "/acme/chat/users/amelia/nothing"})
	require.NotEqual(t, "UserNotFoundException", got.body["exception"], "an unknown path is no user")
}
