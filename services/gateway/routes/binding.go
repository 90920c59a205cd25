package routes

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/chappe-im/chappe/proto"
)

// Binding is one method and path by which an RPC is called.
type Binding struct {
	// RPC is the full name, "/package.Service/Method".
	RPC string
	// Method is the HTTP method, Path the pattern with its parameters in braces.
	Method, Path string
	// Body reports that the body is part of the request.
	Body bool
}

// Service returns the full name of the RPC's service.
func (b *Binding) Service() string {
	service, _, _ := strings.Cut(b.RPC[1:], "/")
	return service
}

// Area returns the third segment of the path, the one behind the app's names.
func (b *Binding) Area() string { return Area(b.Path) }

// Area returns the third segment of a path; it is empty in shorter ones.
func Area(path string) string {
	for range 3 {
		i := strings.IndexByte(path, '/')
		if i < 0 {
			return ""
		}
		path = path[i+1:]
	}
	area, _, _ := strings.Cut(path, "/")
	return area
}

// httpRule is an entry of proto/http.yaml.
type httpRule struct {
	Selector, Get, Post, Put, Delete, Body string

	Additional []httpRule `yaml:"additional_bindings"`
}

// Bindings reads proto/http.yaml: the bindings of all RPCs, in its order.
func Bindings() ([]Binding, error) {
	var doc struct {
		Type          string
		ConfigVersion int `yaml:"config_version"`
		HTTP          struct{ Rules []httpRule }
	}
	in := yaml.NewDecoder(bytes.NewReader(proto.HTTPRules))
	in.KnownFields(true) // what is not read here, such as another method, would not be served
	if err := in.Decode(&doc); err != nil {
		return nil, fmt.Errorf("proto/http.yaml: %w", err)
	}
	var all []Binding
	for _, rule := range doc.HTTP.Rules {
		dot := strings.LastIndexByte(rule.Selector, '.')
		if dot < 0 {
			return nil, fmt.Errorf("proto/http.yaml: %q is no RPC", rule.Selector)
		}
		rpc := "/" + rule.Selector[:dot] + "/" + rule.Selector[dot+1:]
		for _, r := range append([]httpRule{rule}, rule.Additional...) {
			for _, x := range []Binding{
				{Method: http.MethodGet, Path: r.Get},
				{Method: http.MethodPost, Path: r.Post},
				{Method: http.MethodPut, Path: r.Put},
				{Method: http.MethodDelete, Path: r.Delete},
			} {
				if x.Path != "" {
					x.RPC, x.Body = rpc, r.Body != ""
					all = append(all, x)
				}
			}
		}
	}
	return all, nil
}
