# Targets for building, testing and releasing Dragnet; 'make help' lists them.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

GO        ?= go
FUZZTIME  ?= 60s
BENCH     ?= .
BENCHTIME ?= 1s
SOAKTIME  ?= 10m
LOADTIME  ?= 2h
TESTFLAGS ?=

# CI must not use cached test results.
ifeq ($(CI),true)
TESTFLAGS += -count=1
endif

COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)
BUILD  := -trimpath -ldflags '-X dragnet/internal/cli.commit=$(COMMIT)'

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "Variables: FUZZTIME=$(FUZZTIME) BENCH=$(BENCH) BENCHTIME=$(BENCHTIME) SOAKTIME=$(SOAKTIME) LOADTIME=$(LOADTIME) TESTFLAGS DRAGNET_DATA"

.PHONY: demo
demo: ## Run the main job on recorded traffic: who attacked all of us?
	@CGO_ENABLED=0 $(GO) run -ldflags '-s -w' ./lab/incident/demo

.PHONY: build
build: ## Build bin/dragnet and bin/dragnet-agent
	@$(GO) build $(BUILD) -o bin/ ./cmd/dragnet
	@if [ -d cmd/dragnet-agent ]; then CGO_ENABLED=0 $(GO) build $(BUILD) -o bin/ ./cmd/dragnet-agent; fi

.PHONY: test
test: ## All that CI runs: packages, generated files, lint, fuzzing, races, tests
	@GO='$(GO)' TESTFLAGS='$(TESTFLAGS)' tools/test

.PHONY: race
race: ## Run the tests under the race detector, long ones shortened
	@CGO_ENABLED=1 $(GO) test $(TESTFLAGS) -race -short -timeout 20m ./...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, govulncheck, licences
	@tools/lint

.PHONY: gen
gen: ## Write generated code and reference pages again
	@$(GO) generate ./...
	@$(GO) test ./cmd/dragnet -run '^TestReferenceIsFresh$$' -count=1 -update >/dev/null
	@$(GO) test ./cmd/dragnet-agent -run '^TestReferenceIsFresh$$' -count=1 -update >/dev/null
	@$(GO) test ./internal/archtest -run '^(TestDocumentStatesTheRule|TestAgentLinksWhatIsListed)$$' -count=1 -update >/dev/null

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME
	@tools/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## Run the benchmarks that match BENCH
	@$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem -timeout 60m ./... | grep -v -e 'no test files' -e '^PASS$$'

.PHONY: attack
attack: ## Run the attacks of lab/attackers at full size, with what they learn
	DRAGNET_FULL=1 go test -timeout 60m -v ./lab/attackers

.PHONY: soak
soak: ## Load a gateway for LOADTIME, fuzz for SOAKTIME a target, crash imports, repeat the race run
	@DRAGNET_SOAK=$(LOADTIME) $(GO) test -count=1 -v -run '^TestLoad$$' -timeout 24h ./lab/ripcord
	@tools/fuzz $(SOAKTIME)
	@DRAGNET_CRASHES=5000 $(GO) test -count=1 -run '^TestKilled' -timeout 3h ./node/ingest ./node/agents
	@DRAGNET_TRACE_AFTER=10m $(GO) test -count=1 -v -run '^TestChainAfterTheFact$$' -timeout 30m ./lab/trace
	@$(GO) test -race -count=10 -timeout 3h ./...
	@packaging/test-deb

.PHONY: tools
tools: ## Install the Debian packages the tests need, and build the linters
	@tools/packages packaging/test-packages.txt $(wildcard */PACKAGES)
	@$(GO) build -modfile=tools/go.mod -o .cache/tools/ tool

.PHONY: release
release: ## Build dist/: binaries, checksums, SBOMs; the agent is reproducible
	@tools/release

.PHONY: deb
deb: ## Build the Debian packages of node and agent into dist/
	@tools/deb

.PHONY: test-deb
test-deb: ## Install the packages on a clean Debian that boots, and run every role (root)
	@packaging/test-deb

.PHONY: container
container: ## Build the container image of a node or clearinghouse
	@tools/container

.PHONY: test-container
test-container: ## Three organisations in containers found a community and ask each other (root)
	@packaging/test-container

.PHONY: clean
clean: ## Remove what was built
	@rm -rf bin dist .cache
