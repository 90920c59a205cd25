package tier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// MaxDocumentBytes bounds a document.
const MaxDocumentBytes = 1 << 20

// maxDepth bounds nesting; a valid document needs five levels.
const maxDepth = 16

// Fault is one thing that is wrong with a document.
type Fault struct {
	// Path leads to the place: rules.get_user.limits[0].count.
	Path    string
	Message string
}

func (f Fault) String() string {
	if f.Path == "" {
		return f.Message
	}
	return f.Path + ": " + f.Message
}

// Faults is everything that is wrong with a document, in the order of its
// paths.
type Faults []Fault

// Error gives one fault a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

// Parse reads a complete document. If it is not valid the error is Faults, and
// names everything that is wrong.
func Parse(data []byte) (*Document, error) {
	tree, err := parseTree(data)
	if err != nil {
		return nil, err
	}
	return fromTree(tree)
}

// CheckOverrides reports what is wrong with a partial document by itself.
// Merge also finds what does not fit the tier.
func CheckOverrides(data []byte) error {
	_, err := overridesTree(data)
	return err
}

// Merge puts a partial document over a complete one and gives the result,
// checked. Objects merge name by name; a rule, a bucket, a limit or a list is
// replaced as a whole; null means unlimited. No overrides give base itself.
func Merge(base *Document, overrides []byte) (*Document, error) {
	if len(bytes.TrimSpace(overrides)) == 0 {
		return base, nil
	}
	over, own := overridesTree(overrides)
	if over == nil {
		return nil, own
	}
	if d := overlay(base, overrides); own == nil && d != nil {
		return d, nil
	}
	d, err := mergeTrees(base, over)
	if err = both(own, err); err != nil {
		return nil, err
	}
	return d, nil
}

func mergeTrees(base *Document, over map[string]any) (*Document, error) {
	tree, err := parseTree(base.JSON())
	if err != nil {
		return nil, err
	}
	mergeTree(tree, over, documentNode)
	return fromTree(tree)
}

// overlay is the short way to merge overrides that are valid by themselves: a
// change of a tier merges those of every app that has it. It gives nil if they
// do not fit the tier; the long way tells why.
func overlay(base *Document, overrides []byte) *Document {
	d := base.Clone()
	// What the decoder finds it writes to, so nothing may be left of base's.
	d.RetentionDays, d.RateCounting.PerIPPercent, d.Downstream.Factor =
		copyOf(d.RetentionDays), copyOf(d.RateCounting.PerIPPercent), copyOf(d.Downstream.Factor)
	if json.Unmarshal(overrides, d) != nil {
		return nil
	}
	var w walker
	if w.relations(d); w.result() != nil {
		return nil
	}
	return d
}

func copyOf(n *int64) *int64 {
	if n == nil {
		return nil
	}
	c := *n
	return &c
}

// both gives the faults of two errors, each once.
func both(errs ...error) error {
	var w walker
	for _, err := range errs {
		var faults Faults
		if err != nil && !errors.As(err, &faults) {
			return err
		}
		for _, f := range faults {
			if !slices.Contains(w.faults, f) {
				w.faults = append(w.faults, f)
			}
		}
	}
	return w.result()
}

func overridesTree(data []byte) (map[string]any, error) {
	tree, err := parseTree(data)
	if err != nil {
		return nil, err
	}
	w := walker{partial: true}
	if _, ok := tree["name"]; ok {
		w.fault("name", "overrides cannot name a tier")
		delete(tree, "name")
	}
	w.check(documentNode, tree, "")
	return tree, w.result()
}

func mergeTree(base, over map[string]any, n *node) {
	for k, v := range over {
		child := n.child(k)
		b, bok := base[k].(map[string]any)
		o, ook := v.(map[string]any)
		if bok && ook && child != nil && !child.whole {
			mergeTree(b, o, child)
			continue
		}
		base[k] = v
	}
}

// fromTree checks a decoded document and gives it its type.
func fromTree(tree map[string]any) (*Document, error) {
	var w walker
	w.check(documentNode, tree, "")
	// What is wrong by itself is left out, so that whoever reads the faults is
	// told at once what does not fit together in the rest.
	raw, err := json.Marshal(w.sound(tree))
	if err != nil {
		return nil, Faults{{Message: err.Error()}}
	}
	d := &Document{}
	if err := json.Unmarshal(raw, d); err != nil {
		w.fault("", "%v", err)
		return nil, w.result()
	}
	d.complete()
	w.relations(d)
	if err := w.result(); err != nil {
		return nil, err
	}
	return d, nil
}

// parseTree reads one JSON object, refusing names that occur twice: with
// encoding/json the later one would win silently.
func parseTree(data []byte) (map[string]any, error) {
	if len(data) > MaxDocumentBytes {
		return nil, Faults{{Message: fmt.Sprintf("the document is larger than %d bytes", MaxDocumentBytes)}}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	p := treeParser{dec: dec}
	v, err := p.value("", 0)
	if err != nil {
		return nil, Faults{{Message: "not valid JSON: " + describe(err)}}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, Faults{{Message: "not valid JSON: more follows the document"}}
	}
	tree, ok := v.(map[string]any)
	if !ok {
		return nil, Faults{{Message: "must be a JSON object"}}
	}
	if len(p.faults) > 0 {
		return nil, p.faults
	}
	return tree, nil
}

type treeParser struct {
	dec    *json.Decoder
	faults Faults
}

func (p *treeParser) value(path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if delim == '[' {
		list := []any{}
		for p.dec.More() {
			v, err := p.value(path+"["+strconv.Itoa(len(list))+"]", depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := p.dec.Token()
		return list, err
	}
	object := map[string]any{}
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		key, ok := tok.(string)
		if !ok {
			return nil, errors.New("a name must be a string")
		}
		at := join(path, key)
		if _, twice := object[key]; twice {
			p.faults = append(p.faults, Fault{at, "occurs twice"})
		}
		if object[key], err = p.value(at, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = p.dec.Token()
	return object, err
}

func describe(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("%s at byte %d", syntax.Error(), syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	default:
		return err.Error()
	}
}

// decode is json.Unmarshal that keeps numbers as they are written.
func decode(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(into)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
