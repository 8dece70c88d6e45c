# tombolo: `make demo` shows it, `make test` proves it. CONTRIBUTING.md explains the rest.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X tombolo/internal/cli.version=$(VERSION)
BUILD   := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
GO_FILES := $(shell git ls-files '*.go' go.mod go.sum 2>/dev/null)

.PHONY: all build demo test unit lint vet race cross docs bench fuzz soak deps clean

all: build

build: bin/tombolo ## bin/tombolo, for this machine

bin/tombolo: $(GO_FILES)
	$(BUILD) -o $@ ./cmd/tombolo

demo: deps build ## the home network on this machine, in namespaces
	bin/tombolo demo $(DEMO)

# What tombolo runs beside the kernel is nft; the rest are the tests' outside eyes.
deps: ## install the Debian packages that are missing
	@scripts/deps $(DEPS)

test: DEPS := test
test: deps vet lint cross docs-check unit race lab-test ## everything that must be true
	@echo "make test: all passed"

vet:
	go vet ./...

bin/golangci-lint: tools/go.mod tools/go.sum
	go -C tools build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

lint: bin/golangci-lint
	bin/golangci-lint run ./...

unit:
	go test -count=1 ./...

race: ## what is concurrent, under the race detector
	go test -count=1 -race $(RACE)
