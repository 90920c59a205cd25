package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chappe-im/chappe/services/gateway/restjson"
	"github.com/chappe-im/chappe/services/gateway/routes"
)

const refPrefix = "#/components/schemas/"

// digits is what a number that is written as a string begins with.
const digits = "^-?[0-9]"

// body describes the body of a request, without the fields that are bound to
// the path.
func (b *builder) body(route *routes.Route, in protoreflect.MessageDescriptor, bound map[string]bool) (*openapi3.RequestBodyRef, error) {
	schema, err := b.bodySchema(&route.Body, in, bound)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", route.Method, err)
	}
	content := openapi3.NewContentWithJSONSchema(schema)
	if route.Body.Form {
		form := openapi3.NewObjectSchema().WithAdditionalProperties(openapi3.NewStringSchema())
		content["application/x-www-form-urlencoded"] = openapi3.NewMediaType().WithSchema(form)
	}
	return &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody().WithContent(content)}, nil
}

func (b *builder) bodySchema(body *restjson.Body, in protoreflect.MessageDescriptor, bound map[string]bool) (*openapi3.Schema, error) {
	if body.Schema != "" {
		schema, err := parse(body.Schema)
		if err != nil {
			return nil, err
		}
		return schema, b.resolve(schema, in.ParentFile().Package())
	}
	object, err := b.object(in, func(f protoreflect.FieldDescriptor) bool { return !bound[string(f.Name())] && body.Settable(f) })
	if err != nil {
		return nil, err
	}
	for _, alias := range slices.Sorted(maps.Keys(body.Aliases)) {
		object.WithPropertyRef(alias, object.Properties[body.Aliases[alias]])
	}
	if body.Array == "" {
		return object, nil
	}
	return openapi3.NewAnyOfSchema(object, object.Properties[body.Array].Value), nil
}

// parse reads a schema that an entry has as JSON.
func parse(text string) (*openapi3.Schema, error) {
	schema := &openapi3.Schema{}
	if err := json.Unmarshal([]byte(text), schema); err != nil {
		return nil, fmt.Errorf("schema %s: %w", text, err)
	}
	return schema, nil
}

// resolve adds the messages of a package that a schema refers to by name.
func (b *builder) resolve(schema *openapi3.Schema, pkg protoreflect.FullName) error {
	refs := append(slices.Clone(schema.OneOf), schema.Items)
	for _, ref := range refs {
		switch {
		case ref == nil:
		case ref.Ref != "":
			d, err := b.files.FindDescriptorByName(pkg.Append(protoreflect.Name(ref.Ref[len(refPrefix):])))
			if err != nil {
				return err
			}
			message, ok := d.(protoreflect.MessageDescriptor)
			if !ok {
				return fmt.Errorf("%s is no message", d.FullName())
			}
			found, err := b.message(message)
			if err != nil {
				return err
			}
			ref.Value = found.Value
		default:
			if err := b.resolve(ref.Value, pkg); err != nil {
				return err
			}
		}
	}
	return nil
}

// message returns a message within a request as a component.
func (b *builder) message(d protoreflect.MessageDescriptor) (*openapi3.SchemaRef, error) {
	name := string(d.Name())
	if err := b.claim(name, d.FullName()); err != nil {
		return nil, err
	}
	if b.doc.Components.Schemas[name] == nil {
		ref := &openapi3.SchemaRef{}
		b.doc.Components.Schemas[name] = ref // a message may hold itself
		object, err := b.object(d, func(protoreflect.FieldDescriptor) bool { return true })
		if err != nil {
			return nil, err
		}
		ref.Value = object
	}
	return openapi3.NewSchemaRef(refPrefix+name, b.doc.Components.Schemas[name].Value), nil
}

// claim keeps two things from being one component.
func (b *builder) claim(name string, owner any) error {
	if other, taken := b.owners[name]; taken && other != owner {
		return fmt.Errorf("%v and %v would both be the component %s: rename one", other, owner, name)
	}
	b.owners[name] = owner
	return nil
}

// object describes a message. A field is known by its proto name and by the
// JSON form of it.
func (b *builder) object(d protoreflect.MessageDescriptor, has func(protoreflect.FieldDescriptor) bool) (*openapi3.Schema, error) {
	object := openapi3.NewObjectSchema()
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if !has(f) {
			continue
		}
		schema, err := b.field(f)
		if err != nil {
			return nil, err
		}
		object.WithPropertyRef(string(f.Name()), schema)
		object.WithPropertyRef(f.JSONName(), schema)
	}
	return object, nil
}

// field describes what a body may have for a field.
func (b *builder) field(f protoreflect.FieldDescriptor) (*openapi3.SchemaRef, error) {
	one := f
	if f.IsMap() {
		one = f.MapValue()
	}
	single, err := b.single(one)
	if err != nil {
		return nil, err
	}
	schema := single.Value
	switch {
	case f.IsMap():
		schema = openapi3.NewObjectSchema()
		schema.AdditionalProperties.Schema = single
	case f.IsList():
		schema = openapi3.NewArraySchema()
		schema.Items = single
	case single.Ref != "":
		return single, nil
	}
	if len(schema.AnyOf) > 0 {
		schema.AnyOf[0].Value.Nullable = true
	} else {
		schema.Nullable = true
	}
	schema.Description = comment(f)
	return openapi3.NewSchemaRef("", schema), nil
}

// single describes one value of a field's kind.
func (b *builder) single(f protoreflect.FieldDescriptor) (*openapi3.SchemaRef, error) {
	var schema *openapi3.Schema
	switch f.Kind() {
	case protoreflect.MessageKind:
		return b.message(f.Message())
	case protoreflect.BytesKind:
		schema = openapi3.NewSchema() // any JSON
	case protoreflect.BoolKind:
		schema = openapi3.NewAnyOfSchema(openapi3.NewBoolSchema(), openapi3.NewStringSchema().WithEnum("true", "false"))
	case protoreflect.StringKind:
		schema = openapi3.NewStringSchema()
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		schema = openapi3.NewAnyOfSchema(openapi3.NewIntegerSchema(), openapi3.NewStringSchema().WithPattern(digits))
	default:
		return nil, fmt.Errorf("%s: bodies have no fields of kind %s", f.FullName(), f.Kind())
	}
	return openapi3.NewSchemaRef("", schema), nil
}
