package tier

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite schema.json")

// schemaOf gives the JSON Schema of a node.
func schemaOf(n *node) map[string]any {
	s := map[string]any{"type": string(n.kind)}
	if n.doc != "" {
		s["description"] = n.doc
	}
	if n.nullable {
		s["type"] = []string{string(n.kind), "null"}
	}
	switch n.kind {
	case object:
		if n.elem != nil {
			s["additionalProperties"] = schemaOf(n.elem)
			if n.keys != nil {
				s["propertyNames"] = map[string]any{"$ref": "#/$defs/rule"}
			} else {
				s["propertyNames"] = map[string]any{"pattern": namePattern}
			}
			break
		}
		props := map[string]any{}
		for k, p := range n.props {
			props[k] = schemaOf(p)
		}
		s["properties"], s["additionalProperties"] = props, false
		if len(n.required) > 0 {
			s["required"] = n.required
		}
		if len(n.either) > 0 {
			var one []any
			for _, k := range n.either {
				one = append(one, map[string]any{"required": []string{k}})
			}
			s["oneOf"] = one
		}
	case list:
		s["items"] = schemaOf(n.elem)
		if n.nonEmpty {
			s["minItems"] = 1
		}
	case integer:
		s["minimum"], s["maximum"] = n.min, n.max
	case text:
		switch {
		case n == idNode:
			return map[string]any{"$ref": "#/$defs/rule"}
		case n.enum != nil:
			s["enum"] = n.enum()
		case n.pattern != "":
			s["pattern"] = n.pattern
		default:
			s["maxLength"] = maxText
		}
	}
	return s
}

func TestSchemaFileIsInStep(t *testing.T) {
	t.Parallel()
	s := schemaOf(documentNode)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Chappe tier"
	s["$defs"] = map[string]any{"rule": map[string]any{"type": "string", "enum": ruleIDs(), "description": "ID of a call."}}
	want, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	want = append(want, '\n')
	if *update {
		require.NoError(t, os.WriteFile("schema.json", want, 0o644))
		return
	}
	require.JSONEq(t, string(want), string(Schema()), "run: go test ./pkg/tier -run Schema -update")
}

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("tier.json", doc))
	s, err := c.Compile("tier.json")
	require.NoError(t, err)
	return s
}

func TestSchemaAcceptsTheSeeds(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	seeds, err := Seeds()
	require.NoError(t, err)
	for _, d := range seeds {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(d.JSON()))
		require.NoError(t, err)
		require.NoError(t, s.Validate(v))
	}
}

// Every fault that stands at one place is one for the schema too.
func TestSchemaRefusesWhatParseRefuses(t *testing.T) {
	t.Parallel()
	s := compileSchema(t)
	for name, c := range faultCases {
		if c.relation {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(mutate(t, c.edit)))
			require.NoError(t, err)
			require.Error(t, s.Validate(v))
		})
	}
}
