package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/chappe-im/chappe/services/gateway/routes"
)

// answer describes the object that routes.Answer writes.
func (b *builder) answer(x routes.Binding, a *routes.Answer) (*openapi3.Schema, error) {
	if a.Plain != nil {
		ref, err := b.typed(a.Plain.Type)
		if err != nil {
			return nil, err
		}
		return ref.Value, nil
	}
	object := closed()
	add := func(name string, required bool, schema *openapi3.SchemaRef) {
		object.WithPropertyRef(name, schema)
		if required {
			object.Required = append(object.Required, name)
		}
	}
	text := func(names ...string) {
		for _, name := range names {
			add(name, true, openapi3.NewSchemaRef("", openapi3.NewStringSchema()))
		}
	}
	switch a.Action {
	case "":
	case routes.Verb:
		add("action", true, openapi3.NewSchemaRef("", openapi3.NewStringSchema().WithEnum(strings.ToLower(x.Method))))
	default:
		add("action", true, openapi3.NewSchemaRef("", openapi3.NewStringSchema().WithEnum(a.Action)))
	}
	if a.App {
		text("application", "organization", "applicationName")
	}
	if a.Params {
		values := openapi3.NewArraySchema().WithItems(openapi3.NewStringSchema())
		add("params", false, openapi3.NewSchemaRef("", openapi3.NewObjectSchema().WithAdditionalProperties(values)))
	}
	if a.Status != "" {
		add("status", true, openapi3.NewSchemaRef("", openapi3.NewStringSchema().WithEnum(a.Status)))
	}
	if a.Path != nil {
		text("path")
	}
	if a.URI != 0 {
		text("uri")
	}
	for _, f := range []struct {
		name string
		v    *routes.Value
	}{{"entities", a.Entities}, {"data", a.Data}} {
		if f.v == nil {
			continue
		}
		schema, err := b.typed(f.v.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		add(f.name, f.v.Type.Kind() != reflect.Pointer, schema)
	}
	add("timestamp", true, milliseconds("When the answer was made, in milliseconds since 1970."))
	add("duration", true, milliseconds("How long the call took, in milliseconds."))
	if a.Cursor != nil {
		add("cursor", false, openapi3.NewSchemaRef("", openapi3.NewStringSchema()))
	}
	if a.Count != nil {
		add("count", true, openapi3.NewSchemaRef("", openapi3.NewIntegerSchema()))
	}
	return object, nil
}

func milliseconds(text string) *openapi3.SchemaRef {
	schema := openapi3.NewInt64Schema()
	schema.Description = text
	return openapi3.NewSchemaRef("", schema)
}

// closed is an object that has no properties but those that it names.
func closed() *openapi3.Schema {
	object, no := openapi3.NewObjectSchema(), false
	object.AdditionalProperties.Has = &no
	return object
}

// failure describes the answer to a call that failed.
func (b *builder) failure(withResult bool) *openapi3.SchemaRef {
	name := "Error"
	if withResult {
		name = "ErrorWithResult"
	}
	if b.doc.Components.Schemas[name] == nil {
		object := closed()
		for _, p := range []string{"error", "exception", "error_description"} {
			object.WithProperty(p, openapi3.NewStringSchema())
		}
		object.WithProperty("error_code", openapi3.NewIntegerSchema())
		object.WithPropertyRef("timestamp", milliseconds("When the answer was made, in milliseconds since 1970."))
		object.WithPropertyRef("duration", milliseconds("How long the call took, in milliseconds."))
		object.Required = []string{"error", "exception", "timestamp", "duration", "error_description"}
		if withResult {
			object.WithProperty("result", openapi3.NewStringSchema())
		}
		b.doc.Components.Schemas[name] = openapi3.NewSchemaRef("", object)
	}
	return openapi3.NewSchemaRef(refPrefix+name, b.doc.Components.Schemas[name].Value)
}

// described is a type that says by itself what it is written as.
type described interface{ Schema() string }

// typed describes the values of a Go type as encoding/json writes them.
func (b *builder) typed(t reflect.Type) (*openapi3.SchemaRef, error) {
	var schema *openapi3.Schema
	if d, ok := reflect.Zero(t).Interface().(described); ok {
		s, err := parse(d.Schema())
		return openapi3.NewSchemaRef("", s), err
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.typed(t.Elem())
	case reflect.Struct:
		return b.structure(t)
	case reflect.Slice:
		items, err := b.typed(t.Elem())
		if err != nil {
			return nil, err
		}
		schema = openapi3.NewArraySchema()
		schema.Items = items
	case reflect.Map:
		values, err := b.typed(t.Elem())
		if err != nil {
			return nil, err
		}
		schema = openapi3.NewObjectSchema()
		schema.AdditionalProperties.Schema = values
	case reflect.String:
		schema = openapi3.NewStringSchema()
	case reflect.Bool:
		schema = openapi3.NewBoolSchema()
	case reflect.Int, reflect.Int32:
		schema = openapi3.NewIntegerSchema()
	case reflect.Int64:
		schema = openapi3.NewInt64Schema()
	default:
		return nil, fmt.Errorf("%s has no schema", t)
	}
	return openapi3.NewSchemaRef("", schema), nil
}

// structure describes a struct, as a component unless it is generic.
func (b *builder) structure(t reflect.Type) (*openapi3.SchemaRef, error) {
	object := closed()
	if err := b.fields(object, t); err != nil {
		return nil, err
	}
	if strings.ContainsRune(t.Name(), '[') {
		return openapi3.NewSchemaRef("", object), nil
	}
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	if err := b.claim(name, t); err != nil {
		return nil, err
	}
	b.doc.Components.Schemas[name] = openapi3.NewSchemaRef("", object)
	return openapi3.NewSchemaRef(refPrefix+name, object), nil
}

func (b *builder) fields(object *openapi3.Schema, t reflect.Type) error {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			if err := b.fields(object, f.Type); err != nil {
				return err
			}
			continue
		}
		if f.Tag.Get("openapi") == "additional" {
			values, err := b.typed(f.Type.Elem())
			if err != nil {
				return err
			}
			object.AdditionalProperties = openapi3.BoolSchema{Schema: values}
			continue
		}
		tag := strings.Split(f.Tag.Get("json"), ",")
		schema, err := b.typed(f.Type)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
		required := true
		for _, option := range tag[1:] {
			switch option {
			case "omitempty":
				required = false
			case "string":
				schema = openapi3.NewSchemaRef("", openapi3.NewStringSchema().WithPattern("^-?[0-9]+$"))
			}
		}
		object.WithPropertyRef(tag[0], schema)
		if required {
			object.Required = append(object.Required, tag[0])
		}
	}
	return nil
}
