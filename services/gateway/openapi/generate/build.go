package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/chappe-im/chappe/services/gateway/routes"
)

const about = `The REST API of Chappe. Bodies are JSON: without a label, or labelled as JSON or as a form.
Names that a request does not have are ignored, null is an absent value, and numbers and truth values may be strings.
Every answer is a JSON object.`

// builder makes the document.
type builder struct {
	doc   *openapi3.T
	files *protoregistry.Files
	table routes.Table
	// owners are what the components were made of.
	owners map[string]any
}

// build describes the bindings of the RPCs in files.
func build(files *protoregistry.Files, bindings []routes.Binding, table routes.Table) (*openapi3.T, error) {
	b := &builder{files: files, table: table, owners: make(map[string]any), doc: &openapi3.T{
		OpenAPI: "3.0.3",
		Info:    &openapi3.Info{Title: "Chappe", Version: "1", Description: about},
		Paths:   openapi3.NewPaths(),
		Components: &openapi3.Components{
			Schemas:         openapi3.Schemas{},
			SecuritySchemes: openapi3.SecuritySchemes{"bearer": {Value: openapi3.NewSecurityScheme().WithType("http").WithScheme("bearer")}},
		},
	}}
	seen := make(map[string]int)
	for _, x := range bindings {
		op, err := b.operation(x)
		if err != nil {
			return nil, err
		}
		if seen[op.OperationID]++; seen[op.OperationID] > 1 {
			op.OperationID = fmt.Sprint(op.OperationID, seen[op.OperationID])
		}
		b.doc.AddOperation(x.Path, x.Method, op)
	}
	return b.doc, nil
}

func (b *builder) operation(x routes.Binding) (*openapi3.Operation, error) {
	route, ok := b.table[x.RPC]
	if !ok {
		return nil, fmt.Errorf("%s has a path in proto/http.yaml and no entry in services/gateway/routes", x.RPC)
	}
	service, name, _ := strings.Cut(x.RPC[1:], "/")
	d, err := b.files.FindDescriptorByName(protoreflect.FullName(service).Append(protoreflect.Name(name)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", x.RPC, err)
	}
	rpc, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no RPC", x.RPC)
	}
	op := openapi3.NewOperation()
	op.OperationID = name
	op.Tags = []string{strings.TrimSuffix(string(protoreflect.FullName(service).Name()), "Service")}
	op.Description = strings.TrimSpace(comment(rpc) + "\n\n" + access(route) + " " + rate(route))
	op.Security = openapi3.NewSecurityRequirements().With(openapi3.SecurityRequirement{"bearer": {}})
	if route.Policy == routes.Open {
		op.Security.With(openapi3.SecurityRequirement{})
	}
	bound, err := b.parameters(op, x, route, rpc.Input())
	if err != nil {
		return nil, err
	}
	if x.Body {
		if op.RequestBody, err = b.body(route, rpc.Input(), bound); err != nil {
			return nil, err
		}
	}
	answer, err := b.answer(x, &route.Answer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", x.RPC, err)
	}
	op.Responses = openapi3.NewResponses(
		openapi3.WithStatus(http.StatusOK, response("The call succeeded.", openapi3.NewSchemaRef("", answer))),
		openapi3.WithName("default", response("The call failed.", b.failure(route.ErrorResult)).Value),
	)
	return op, nil
}

func response(text string, schema *openapi3.SchemaRef) *openapi3.ResponseRef {
	return &openapi3.ResponseRef{Value: openapi3.NewResponse().WithDescription(text).WithJSONSchemaRef(schema)}
}

// access says whose token a call takes.
func access(r *routes.Route) string {
	switch r.Policy {
	case routes.AppOnly:
		return "Takes the app's token."
	case routes.AppOrSelf:
		return "Takes the app's token, or that of the user in the path."
	case routes.AppOrUser:
		return "Takes the app's token, or that of any of its users."
	case routes.Open:
		return "Takes calls without a token, and more with one."
	default:
		return ""
	}
}

// rate says what counts a call.
func rate(r *routes.Route) string {
	if r.Unlisted != "" {
		return "Counted as " + r.Unlisted + " by the default rate."
	}
	return "Counted by " + strings.Join(r.Rules, ", ") + "."
}

// comment returns what the definition says of something.
func comment(d protoreflect.Descriptor) string {
	text := d.ParentFile().SourceLocations().ByDescriptor(d).LeadingComments
	return strings.Join(strings.Fields(text), " ")
}

// parameters describes path and query, and returns the fields in the path.
func (b *builder) parameters(op *openapi3.Operation, x routes.Binding, route *routes.Route, in protoreflect.MessageDescriptor) (map[string]bool, error) {
	bound := make(map[string]bool)
	for s := range strings.SplitSeq(x.Path, "/") {
		name, isParameter := strings.CutPrefix(s, "{")
		if !isParameter {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		f := in.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			return nil, fmt.Errorf("%s has no field %s for its path", x.RPC, name)
		}
		bound[name] = true
		op.AddParameter(openapi3.NewPathParameter(name).WithDescription(comment(f)).WithSchema(plain(f)))
	}
	for _, name := range route.Query {
		f := in.Fields().ByJSONName(name)
		if f == nil {
			return nil, fmt.Errorf("%s has no field %s for its query", x.RPC, name)
		}
		op.AddParameter(openapi3.NewQueryParameter(name).WithDescription(comment(f)).WithSchema(plain(f)))
	}
	return bound, nil
}

// plain describes a value outside of JSON. A flag is set by "true" in any case
// and taken for false otherwise.
func plain(f protoreflect.FieldDescriptor) *openapi3.Schema {
	switch f.Kind() {
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return openapi3.NewIntegerSchema()
	default:
		return openapi3.NewStringSchema()
	}
}
