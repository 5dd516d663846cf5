# What a contributor runs. CI runs .ci/run, which is all of the checks in one go.
# Knobs are variables: make fuzz FUZZTIME=9000000x, make test PKG=./messages/...

PKG          ?= ./...
FUZZTIME     ?= 2000000x
CHECKS       ?= 20000
SOAK         ?= 10
DURATION     ?= 5m
TRANSACTIONS ?= 1000000
BENCH        ?= .
COVER        ?= bin/cover.out

.DEFAULT_GOAL := help

.PHONY: help
help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Builds ./bin/assent.
	go build -o bin/assent ./cmd/assent

.PHONY: test
test: ## All tests (PKG=./... to choose).
	go test $(PKG)

.PHONY: race
race: ## All tests under the race detector; needs a C compiler.
	go test -race $(PKG)

.PHONY: lint
lint: ## go vet and golangci-lint, pinned in .ci/lint; the layers are checked here.
	go vet $(PKG)
	.ci/lint $(PKG)

.PHONY: fuzz
fuzz: ## Every fuzz target, FUZZTIME each (2000000x: about a minute for a codec).
	.ci/fuzz $(FUZZTIME)

.PHONY: sim
sim: ## The simulations and properties of the protocol, CHECKS runs each (20000).
	.ci/sim $(CHECKS)

.PHONY: soak
soak: ## Every fault by every other, and the large numbers, SOAK times over (10); stops at the first failure.
	go test -count=$(SOAK) -failfast -timeout 0 ./integration -faults.all

.PHONY: soak-locks
soak-locks: ## Every fault of the locks for DURATION each (5m), every mutant, and 300,000 simulations.
	go test -timeout 0 -v ./integration/locks -locks.all -locks.duration $(DURATION)
	go test -timeout 0 ./locks/internal/agent -run TestSimulation -sim.runs 300000

.PHONY: soak-replicas
soak-replicas: ## Three NATS servers of which one is always being stopped for some seconds, two coordinators, and assent check, for DURATION (5m).
	.ci/replicas $(DURATION)

.PHONY: soak-router
soak-router: ## The hand-off of partitions explored to 200,000 states a scope and simulated 1000 times, every mutant; nodes of a group under faults, SOAK times.
	go test -timeout 0 ./router/internal/handoff -explore.states 200000 -simulation.runs 1000
	go test -timeout 0 -count=$(SOAK) -failfast ./integration -run 'TestNode|TestSteward|TestServerIsKilledWhile|TestOnlyTheShareMoves'

.PHONY: soak-check
soak-check: ## 1,000,000 transactions under every fault, without an anomaly; 100,000 of a bank; some without keys, which must have anomalies; every mutant of the checker.
	go run ./cmd/assent check --transactions $(TRANSACTIONS) --clients 128 --keys 64 --every 2s
	go run ./cmd/assent check --transactions 100000 --workload bank --clients 64 --keys 16 --coordinators 3 --every 2s
	go build -o bin/assent ./cmd/assent
	bin/assent check --transactions 20000 --clients 64 --no-keys >/dev/null; test $$? -eq 5
	go test -timeout 0 ./internal/elle -mutants

.PHONY: bench
bench: ## The Go benchmarks (BENCH=regexp), then `assent bench`, the figures of docs/performance.md.
	go test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)
	go run ./cmd/assent bench

.PHONY: cover
cover: ## Coverage of all packages by all tests, as bin/cover.html.
	@mkdir -p $(dir $(COVER))
	go test -coverpkg=./... -coverprofile=$(COVER) $(PKG)
	go tool cover -func=$(COVER) | tail -n 1
	go tool cover -html=$(COVER) -o $(basename $(COVER)).html

.PHONY: ci
ci: ## What CI runs, all of it.
	.ci/run
