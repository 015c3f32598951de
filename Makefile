# Targets are documented by the text after ##; `make help` lists them.
GO      ?= go
BIN     := bin
CHECKED := ./...
TESTFLAGS ?=

.DEFAULT_GOAL := build

.PHONY: build
build: ## build bin/coredns, bin/coredhcp, bin/dicomnam and bin/corebuild (the default)
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/coredns ./build/coredns
	$(GO) build -trimpath -o $(BIN)/coredhcp ./build/coredhcp
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/dicomnam ./build/dicomnam
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/corebuild ./build/cmd/corebuild

.PHONY: demo
demo: build ## watch a scanner get its address and be found (under 15 s once built)
	DICOMNAM_BIN=$(CURDIR)/$(BIN) $(GO) run ./integration/demo

.PHONY: test
test: ## run every test; those whose peer is not installed say so and skip
	$(GO) test -timeout 40m $(TESTFLAGS) $(CHECKED)

.PHONY: race
race: ## run every test but the integration tests under the race detector
	$(GO) test -timeout 60m -race $$($(GO) list $(CHECKED) | grep -v /integration)

.PHONY: interop
interop: build ## the tests that start real processes and real peers
	$(GO) test -timeout 40m -count=1 -v ./integration/...

.PHONY: lint
lint: ## gofmt, go vet and golangci-lint (built from its pinned source the first time)
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt'd: $$unformatted"; exit 1; }
	$(GO) vet $(CHECKED)
	$(GO) tool -modfile=build/tools/golangci-lint/go.mod golangci-lint run --timeout 20m $(CHECKED)

FUZZTIME ?= 20s
.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZTIME (20s)
	@set -e; for pkg in $$($(GO) list $(CHECKED)); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
		done; \
	done

.PHONY: bench
bench: build ## measure beside BIND, Knot, Kea and the hosts' own plugins (BENCHFLAGS=-short)
	DICOMNAM_BIN=$(CURDIR)/$(BIN) $(GO) run ./integration/bench $(BENCHFLAGS)

.PHONY: gobench
gobench: ## run the Go benchmarks of every package
	$(GO) test -run '^$$' -bench . -benchmem ./plugin/... ./coredhcp-plugins/...

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
