package contract

import (
	"bytes"
	"encoding/json"
	testflag "flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/chappe-im/chappe/services/gateway/openapi"
	"github.com/chappe-im/chappe/services/run"
	"github.com/chappe-im/chappe/test/harness"
)

const form = "application/x-www-form-urlencoded"

// documented is the transport of all calls of these tests. It holds the OpenAPI
// document against them: every answer has to be one that the document describes,
// and so has every request that was answered with success. A call that differs
// fails as if it could not be made.
type documented struct {
	next   http.RoundTripper
	router routers.Router
	doc    *openapi3.T

	mu sync.Mutex
	// succeeded are the operations that were seen to.
	succeeded map[*openapi3.Operation]bool
}

func newDocumented(next http.RoundTripper) (*documented, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document())
	if err != nil {
		return nil, err
	}
	router, err := gorillamux.NewRouter(doc)
	return &documented{next: next, router: router, doc: doc, succeeded: make(map[*openapi3.Operation]bool)}, err
}

// RoundTrip makes a call and compares it with the document.
func (d *documented) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	if req.Body != nil {
		var err error
		if sent, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := d.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	if err := d.compare(req, sent, resp, raw); err != nil {
		return nil, fmt.Errorf("the OpenAPI document does not describe %s %.200s %.500s, answered %d %.500s: %w", req.Method, req.URL, sent, resp.StatusCode, raw, err)
	}
	return resp, nil
}

func (d *documented) compare(req *http.Request, sent []byte, resp *http.Response, raw []byte) error {
	find := req.Clone(req.Context())
	if req.Method == http.MethodGet { // what is read may end in a slash
		find.URL.Path, find.URL.RawPath = strings.TrimSuffix(req.URL.Path, "/"), ""
	}
	route, params, err := d.router.FindRoute(find)
	if err != nil {
		if resp.StatusCode == http.StatusOK {
			return err
		}
		var answer any
		if err := json.Unmarshal(raw, &answer); err != nil {
			return err
		}
		return d.doc.Components.Schemas["ErrorWithResult"].Value.VisitJSON(answer)
	}
	asked := req.Clone(req.Context())
	asked.GetBody = nil // the validator would read what was sent and not what follows
	// A blank body is none, and a byte order mark no part of it.
	sent = bytes.TrimSpace(bytes.TrimPrefix(sent, []byte(byteOrderMark)))
	asked.Body, asked.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
	if len(sent) == 0 {
		asked.Body = http.NoBody
	}
	// A body may lack its label, and JSON may be labelled as a form.
	label, _, _ := strings.Cut(asked.Header.Get("Content-Type"), ",") // an old client SDK sets it twice
	asked.Header.Set("Content-Type", label)
	if label == "" || strings.HasPrefix(label, form) {
		asked.Header.Set("Content-Type", form)
		if len(sent) == 0 || json.Valid(sent) {
			asked.Header.Set("Content-Type", "application/json")
		} else {
			// Only "&" separates the pairs of a form.
			sent = bytes.ReplaceAll(sent, []byte(";"), []byte("%3B"))
			asked.Body, asked.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
		}
	}
	input := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, SkipSettingDefaults: true},
	}
	if resp.StatusCode == http.StatusOK {
		if err := openapi3filter.ValidateRequest(req.Context(), input); err != nil {
			return err
		}
	}
	answer := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Options: input.Options}
	if err := openapi3filter.ValidateResponse(req.Context(), answer.SetBodyBytes(raw)); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK {
		d.mu.Lock()
		d.succeeded[route.Operation] = true
		d.mu.Unlock()
	}
	return nil
}

// unseen lists the operations that no test called with success. It is empty if
// only some of the tests have run.
func (d *documented) unseen() []string {
	if testflag.Lookup("test.run").Value.String() != "" || testflag.Lookup("test.skip").Value.String() != "" || testflag.Lookup("test.list").Value.String() != "" {
		return nil
	}
	var names []string
	for _, item := range d.doc.Paths.Map() {
		for _, op := range item.Operations() {
			if !d.succeeded[op] {
				names = append(names, op.OperationID)
			}
		}
	}
	return names
}

// TestDocumentIsServed asks for the document: operators always get it, others
// where a setting says so. An org may have any name all the same.
func TestDocumentIsServed(t *testing.T) {
	t.Parallel()
	get := func(url string) (int, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		return resp.StatusCode, raw
	}
	for _, public := range []bool{false, true} {
		s := harness.StartWith(t, func(c *run.Config) { c.OpenAPI = public })
		status, raw := get(s.Ops + openapi.Path)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, openapi.Document(), raw)
		status, raw = get(s.HTTP + openapi.Path)
		if public {
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, openapi.Document(), raw)
		} else {
			require.Equal(t, http.StatusNotFound, status)
			require.Contains(t, string(raw), noResource)
		}
		status, raw = get(s.HTTP + openapi.Path + "/chat/users")
		require.Equal(t, http.StatusNotFound, status)
		require.Contains(t, string(raw), "organization_application_not_found", "the path of an app's calls")
	}
}
