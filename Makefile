# The only entry points of the build; CI calls the same ones.
#
# Every build uses one set of flags, so that all of them share the build cache:
# the first build takes about two minutes on two cores, a later one seconds.

SHELL       := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CGO_ENABLED := 0

BIN      := bin
GO       ?= go
BUF      := tools/node_modules/.bin/buf
LINT     := $(BIN)/golangci-lint
PACKAGES := ./...
# Embedded servers start in many tests; a hung one must not hang the run.
TEST_TIMEOUT ?= 15m
TEST_FLAGS   ?=
# chappe serve reads its flags from here: make run ARGS="--http 127.0.0.1:8081".
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: $(BUF) $(LINT) ## install buf and build golangci-lint, both pinned under tools/

$(BUF): tools/package-lock.json
	npm ci --prefix tools --ignore-scripts --no-audit --no-fund
	@touch $@

# Own module, own versions: see tools/go.mod.
$(LINT): tools/go.mod tools/go.sum
	GOWORK=off $(GO) build -C tools -o ../$(BIN)/ tool
	@touch $@

# What the API document is made of, with the comments of the protos.
OPENAPI = $(BUF) build -o "$$dir/image.binpb" && $(GO) run ./services/gateway/openapi/generate -image "$$dir/image.binpb"

.PHONY: gen
gen: $(BUF) ## lint the protos, regenerate proto/gen and the OpenAPI document
	$(BUF) lint
	$(BUF) generate
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(OPENAPI) -out services/gateway/openapi/openapi.json

.PHONY: gen-check
gen-check: $(BUF) ## fail when what make gen writes is out of date
	$(BUF) lint
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(BUF) generate -o "$$dir" && \
	{ diff -r "$$dir/proto/gen" proto/gen || { echo "proto/gen is out of date: run make gen" >&2; exit 1; }; } && \
	$(OPENAPI) -out "$$dir/openapi.json" && \
	{ diff "$$dir/openapi.json" services/gateway/openapi/openapi.json || { echo "the OpenAPI document is out of date: run make gen" >&2; exit 1; }; }

.PHONY: vet
vet: ## go vet, with the tests that make test leaves out
	$(GO) vet -tags faults $(PACKAGES)

.PHONY: lint
lint: $(LINT) ## golangci-lint with .golangci.yaml
	$(LINT) run $(PACKAGES)

.PHONY: fmt
fmt: $(LINT) ## format the Go files as lint wants them
	$(LINT) fmt

.PHONY: build
build: ## build the binaries into bin/
	$(GO) build -o $(BIN)/ ./cmd/...

.PHONY: check
check: gen-check vet lint build ## all that needs no running server

.PHONY: test
test: test/websdk/node_modules ## every test, with the Web SDK against a running server
	$(GO) test -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) $$($(GO) list $(PACKAGES) | grep -v '/test/e2e$$')
	@# Whole servers under load, held to their paces: alone on the machine.
	$(GO) test -timeout $(TEST_TIMEOUT) $(TEST_FLAGS) ./test/e2e

# Flags of the fault test: -run TestFaults/^disk-full$ runs one fault, -seed
# another course of the load, -traffic longer; -update keeps what was measured.
FAULTS ?=

.PHONY: test-faults
test-faults: ## do harm to servers under load, for about 15 minutes; FAULTS="-update" keeps the figures, then make docs
	$(GO) test -tags faults -count=1 -timeout 60m -v ./test/faults $(FAULTS)

# The official client SDK, as published, which the tests under test/ drive.
test/websdk/node_modules: test/websdk/package-lock.json
	npm ci --prefix test/websdk --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: docs
docs: ## write the tables of docs/ that are made from the code
	$(GO) test ./test/docs -run TestGeneratedSections -update -count=1

.PHONY: bench
bench: build ## measure, and write bench/RESULTS.md
	$(GO) run ./bench/chappe-bench suite --server $(BIN)/chappe --out bench/RESULTS.md

.PHONY: run
run: build ## build and start the all-in-one server on 127.0.0.1:8080, with a demo app
	$(BIN)/chappe serve --demo $(ARGS)

.PHONY: clean
clean: ## remove what the build made, not ./data
	rm -rf $(BIN) tools/node_modules test/websdk/node_modules examples/node_modules
