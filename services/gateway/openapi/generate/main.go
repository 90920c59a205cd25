// Command generate writes the OpenAPI document of the REST API. make gen runs
// it, with an image of the protocol definitions that has their comments.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/chappe-im/chappe/services/gateway/routes"
)

func main() {
	image := flag.String("image", "", "file descriptor set of the protocol definitions, as buf build writes it")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	if err := run(*image, *out); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func run(image, out string) error {
	raw, err := os.ReadFile(filepath.Clean(image))
	if err != nil {
		return err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return fmt.Errorf("%s: %w", image, err)
	}
	bindings, err := routes.Bindings()
	if err != nil {
		return err
	}
	doc, err := build(files, bindings, routes.All())
	if err != nil {
		return err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return err
	}
	raw, err = json.Marshal(doc)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, raw, "", " "); err != nil {
		return err
	}
	text.WriteByte('\n')
	return os.WriteFile(out, text.Bytes(), 0o644) //nolint:gosec // a source file
}
