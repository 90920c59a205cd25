// Package target prepares and addresses the Chappe server that is measured:
// tokens, users, and sends over its REST surface.
package target

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chappe-im/chappe/bench/internal/rawhttp"
)

// Config addresses an app on a server.
type Config struct {
	// URL is the REST base, without a path.
	URL string
	// WS is the websocket endpoint; empty means /ws on the same host.
	WS string
	// App is "org/app".
	App          string
	ClientID     string
	ClientSecret string
}

// Target is an app that can be used.
type Target struct {
	Org, App string
	base     *url.URL
	ws       string
	client   *http.Client
	token    string
}

const (
	// prepareWorkers bounds concurrent preparing calls.
	prepareWorkers = 8
	callTimeout    = 30 * time.Second
	// userTTL is the life of users' tokens, in seconds.
	userTTL = 24 * 3600
)

// New fetches the app's token.
func New(ctx context.Context, cfg Config) (*Target, error) {
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Scheme != "http" || base.Host == "" {
		return nil, fmt.Errorf("base URL %q: only http://host:port is known here", cfg.URL)
	}
	org, app, ok := strings.Cut(cfg.App, "/")
	if !ok || org == "" || app == "" {
		return nil, fmt.Errorf("app %q is not org/app", cfg.App)
	}
	t := &Target{
		Org: org, App: app, base: base, ws: cfg.WS,
		client: &http.Client{
			Timeout:   callTimeout,
			Transport: &http.Transport{MaxIdleConnsPerHost: prepareWorkers},
		},
	}
	if t.ws == "" {
		t.ws = "ws://" + base.Host + "/ws"
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	err = t.call(ctx, http.MethodPost, "token", map[string]any{
		"grant_type": "client_credentials", "client_id": cfg.ClientID, "client_secret": cfg.ClientSecret,
	}, &answer)
	if err != nil {
		return nil, fmt.Errorf("app token: %w", err)
	}
	t.token = answer.Token
	return t, nil
}

// AppKey is "org#app".
func (t *Target) AppKey() string { return t.Org + "#" + t.App }

// WS is the websocket endpoint.
func (t *Target) WS() string { return t.ws }

// Host is host:port of the REST base.
func (t *Target) Host() string { return t.base.Host }

// Close drops the connections that preparing has used.
func (t *Target) Close() { t.client.CloseIdleConnections() }

// statusError is an answer with an error status.
type statusError struct {
	status     int
	body       string
	retryAfter time.Duration
}

// Error gives status and body.
func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.body) }

// call makes one preparing call. It waits and repeats as long as the server
// says that a limit is reached.
func (t *Target) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	for {
		err := t.once(ctx, method, path, body, out)
		var status *statusError
		if !errors.As(err, &status) || status.status != http.StatusTooManyRequests {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(max(status.retryAfter, 100*time.Millisecond)):
		}
	}
}

func (t *Target) once(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, t.base.JoinPath(t.Org, t.App, path).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if t.token != "" {
		req.Header.Set("Authorization", "Bearer "+t.token)
	}
	res, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		e := &statusError{status: res.StatusCode, body: string(answer[:min(len(answer), 300)])}
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
			e.retryAfter = time.Duration(s) * time.Second
		}
		return fmt.Errorf("%s %s: %w", method, path, e)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// CreateUsers registers users without passwords and gives a token for each, in
// their order.
func (t *Target) CreateUsers(ctx context.Context, names []string) ([]string, error) {
	tokens := make([]string, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(prepareWorkers)
	for i, name := range names {
		g.Go(func() error {
			var answer struct {
				Token string `json:"access_token"`
			}
			err := t.call(ctx, http.MethodPost, "token", map[string]any{
				"grant_type": "inherit", "username": name, "autoCreateUser": true, "ttl": userTTL,
			}, &answer)
			if err != nil {
				return fmt.Errorf("user %s: %w", name, err)
			}
			tokens[i] = answer.Token
			return nil
		})
	}
	return tokens, g.Wait()
}

// each makes a preparing call for every name.
func (t *Target) each(ctx context.Context, names []string, call func(ctx context.Context, name string) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(prepareWorkers)
	for _, name := range names {
		g.Go(func() error {
			if err := call(ctx, name); err != nil {
				return fmt.Errorf("user %s: %w", name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Register registers users with a password.
func (t *Target) Register(ctx context.Context, names []string, password string) error {
	return t.each(ctx, names, func(ctx context.Context, name string) error {
		return t.call(ctx, http.MethodPost, "users", map[string]string{"username": name, "password": password}, nil)
	})
}

// SetAttributes gives all users the same attributes.
func (t *Target) SetAttributes(ctx context.Context, names []string, attributes map[string]string) error {
	return t.each(ctx, names, func(ctx context.Context, name string) error {
		return t.call(ctx, http.MethodPut, "metadata/user/"+name, attributes, nil)
	})
}

// subscriptionSeconds outlast any measurement.
const subscriptionSeconds = 24 * 3600

// Subscribe lets users follow the presence of another.
func (t *Target) Subscribe(ctx context.Context, subscribers []string, to string) error {
	return t.each(ctx, subscribers, func(ctx context.Context, name string) error {
		return t.call(ctx, http.MethodPost, fmt.Sprintf("users/%s/presence/%d", name, subscriptionSeconds),
			map[string]any{"usernames": []string{to}}, nil)
	})
}

// Request is the head of a call with the app's token, for rawhttp.
func (t *Target) Request(method string, path ...string) rawhttp.Request {
	return rawhttp.NewRequest(method, t.base.JoinPath(append([]string{t.Org, t.App}, path...)...), map[string]string{
		"Authorization": "Bearer " + t.token,
		"Content-Type":  "application/json",
	})
}

// SendRequest is the head of a send to users, for rawhttp.
func (t *Target) SendRequest() rawhttp.Request {
	return t.Request(http.MethodPost, "messages", "users")
}

// AppendTextBody appends the JSON of a text message. None of the values may
// need escaping.
func AppendTextBody(b []byte, from string, to []string, text []byte) []byte {
	b = append(b, `{"from":"`...)
	b = append(b, from...)
	b = append(b, `","to":[`...)
	for i, name := range to {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, '"')
	}
	b = append(b, `],"type":"txt","body":{"msg":"`...)
	b = append(b, text...)
	return append(b, `"}}`...)
}
