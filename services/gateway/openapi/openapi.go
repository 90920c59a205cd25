// Package openapi serves the description of the REST API as an OpenAPI
// document. generate makes it, from proto/http.yaml, the protocol definitions
// and the routes table.
package openapi

import (
	_ "embed" // the document
	"net/http"
)

// Path is where the document is served.
const Path = "/openapi.json"

//go:embed openapi.json
var document []byte

// Document returns the document, JSON.
func Document() []byte { return document }

// Handler serves the document to pages of any origin.
func Handler(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_, _ = w.Write(document) // a reader who is gone needs none
}
