// Package proto holds the protocol definitions of all services and, in
// http.yaml, the methods and paths by which REST calls reach them.
package proto

import _ "embed"

// HTTPRules is http.yaml, the service configuration that the gateway's handlers
// are generated with.
//
//go:embed http.yaml
var HTTPRules []byte
