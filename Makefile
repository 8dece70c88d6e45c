# tombolo: `make demo` shows it, `make test` proves it. CONTRIBUTING.md explains the rest.

SHELL   := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X tombolo/internal/cli.version=$(VERSION)
BUILD   := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

# The packages in which goroutines share anything.
RACE := ./internal/tunnel/... ./internal/lab/... ./internal/kernel/... ./internal/babel/udp/... ./internal/agent/... ./internal/api/... ./internal/plan/plantest/...

FUZZTIME ?= 1m
LAWS     ?= 1000

.PHONY: all build demo deps deps-test deps-bench deps-vm test vet lint unit race cross docs docs-check golden bench fuzz soak soak-sim soak-lab soak-routing soak-vm truth vm vm-shell clean

all: build

build: ## bin/tombolo, for this machine
	$(BUILD) -o bin/tombolo ./cmd/tombolo

demo: deps build ## the home network on this machine, in namespaces
	bin/tombolo demo $(DEMO)

deps: ## what tombolo runs beside the kernel
	@scripts/deps

deps-test: ## and the programs that look at its work from outside
	@scripts/deps test

# The order: what fails fastest comes first.
test: deps-test deps-vm vet cross docs-check lint unit race vm ## everything that must be true
	@echo "make test: all passed"

vet:
	go vet ./...

bin/golangci-lint: tools/go.mod tools/go.sum
	go -C tools build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

lint: bin/golangci-lint
	bin/golangci-lint run ./...

unit: ## all but what race runs; the labs by themselves: they mostly wait, and what computes makes them late
	go test -count=1 -timeout 15m -parallel 5 ./internal/cli
	go test -count=1 -timeout 15m $$(go list ./... | grep -vxFf <(go list ./internal/cli $(RACE)))

race: ## what is concurrent, under the race detector
	CGO_ENABLED=1 go test -count=1 -timeout 15m -p 3 -race $(RACE)

deps-bench: ## and the routing daemons that ours is compared with
	@scripts/deps bench

deps-vm: ## and an emulated machine
	@scripts/deps vm

# docs/kernels.md says what this machine is; vm/cases, which tests run in it.
vm: deps-vm build ## the same on Debian's own kernel, with its WireGuard
	go vet -tags vm ./vm
	vm/run

vm-shell: deps-vm build ## a shell there
	vm/run shell

# A router's binary must build and stay small, also where integers have 32 bits. It has no lab.
cross:
	go vet -tags router ./cmd/tombolo ./internal/cli
	GOOS=linux GOARCH=mipsle GOMIPS=softfloat $(BUILD) -tags router -o bin/tombolo-mipsle ./cmd/tombolo
	GOOS=linux GOARCH=arm $(BUILD) -tags router -o bin/tombolo-arm ./cmd/tombolo
	@for b in mipsle arm; do s=$$(stat -c %s bin/tombolo-$$b); echo "bin/tombolo-$$b: $$s bytes"; \
		[ $$s -lt 13000000 ] || { echo "bin/tombolo-$$b is not below 13 MB"; exit 1; }; done

docs: build ## what is made from the code: pages, schema, pictures, man pages, completions
	go test ./internal/spec -run Generated -update
	bin/tombolo draw examples/home.yaml >docs/home.svg 2>/dev/null
	go run ./cmd/docs bin/docs

docs-check: build ## that the picture in the README is that of today; the rest is tested in spec
	@bin/tombolo draw examples/home.yaml 2>/dev/null | cmp - docs/home.svg || { echo "hint: make docs"; exit 1; }
	@go run ./cmd/docs bin/docs

TRUTH ?= 50

truth: deps-test ## TRUTH random networks in the lab, real packets against what the tracer says; from a printed seed
	@seed=$${TOMBOLO_SEED:-$$(date +%s)}; echo "TOMBOLO_SEED=$$seed"; \
		TOMBOLO_SEED=$$seed TOMBOLO_TRUTH_NETWORKS=$(TRUTH) TOMBOLO_TRUTH_FLOWS=250 go test -count=1 -timeout 12h -v -run 'TestTraceIsTrue$$' ./internal/cli

golden: ## write the golden files anew
	go test ./internal/compile ./internal/plan ./internal/draw ./internal/spec -update
	go test ./internal/cli -run Troubles -update

bench: deps-bench deps-vm build ## measure, and write docs/benchmarks.md
	go run ./cmd/bench -tombolo bin/tombolo -write docs/benchmarks.md

fuzz: ## every fuzz target in turn
	@set -e; for d in $$(git grep -l '^func Fuzz' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' $$d/*_test.go | cut -c6-); do \
			echo "$$d $$f"; go test ./$$d -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime=20x; \
		done; done

soak: soak-sim soak-lab soak-routing soak-vm ## the long runs

# Random networks on a virtual clock, and a thousand devices that roam between fifty doors;
# the name of a test that fails says the seed.
soak-sim:
	go test -count=1 -timeout 3h ./internal/babel/sim -run 'TestLaws|TestRoaming' -laws $(LAWS) -clients 1000 -seed $$(date +%s)

# Twenty routers whose links come and go, for as many minutes (SOAK); and a device that hops
# between doors, for five.
soak-routing: deps-test
	TOMBOLO_SOAK=$(or $(SOAK),30)m go test ./internal/cli -count=1 -run TestRandomNetwork -v -timeout 24h
	TOMBOLO_SOAK=5m go test ./internal/cli -count=1 -run TestDeviceHops -v -timeout 1h

# A lab stays up while its paths are cut and healed; every pair must be reached at the end
# of each round.
soak-lab: deps-test build
	scripts/soak $(SOAK)

# Hours of a clock that jumps where the guest sleeps: rekeys, roaming, other addresses.
soak-vm: deps-vm build
	vm/run soak $(HOURS)

clean:
	rm -rf bin
