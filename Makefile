# "make test" sets up what it needs and runs everything. It needs Go and make.

GOLANGCI_LINT_VERSION := v2.15.0
BIN                   := $(CURDIR)/bin
LINT                  := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
CADDY                 := $(BIN)/caddy
# Every configuration that is shipped. Each is formatted, adapted and validated.
CADDYFILES            := Caddyfile.example Caddyfile.v2.example $(wildcard examples/*.caddyfile) $(wildcard examples/*/Caddyfile)

.PHONY: test setup check lint configs unit e2e fuzz bench demo fmt clean
.NOTPARALLEL:

test: setup check lint configs unit e2e

# The race detector needs a C compiler, and the tests of the program look at its system
# calls; Go fetches everything else by itself.
setup:
	@command -v cc > /dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update && apt-get install -y gcc libc6-dev; } || \
		{ echo "the race detector needs a C compiler; on Debian: apt-get install gcc libc6-dev"; exit 1; }
	@command -v strace > /dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update && apt-get install -y strace; } || \
		{ echo "the tests of the program need strace; on Debian: apt-get install strace"; exit 1; }

# The linter in its own version, built once with this Go.
$(LINT):
	GOBIN=$(BIN)/tmp go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(BIN)/tmp/golangci-lint $@

$(CADDY): FORCE
	go build -o $@ ./cmd/caddy
FORCE:

check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
		if [ -n "$$unformatted" ]; then echo "run 'make fmt': $$unformatted"; exit 1; fi
	go mod verify
	go vet ./...

lint: $(LINT)
	$(LINT) run ./...

configs: $(CADDY)
	@for f in $(CADDYFILES); do \
		echo "$$f: fmt, adapt, validate"; \
		$(CADDY) fmt --diff $$f > $(BIN)/fmt.out || { cat $(BIN)/fmt.out; echo "run: caddy fmt --overwrite $$f"; exit 1; }; \
		$(CADDY) adapt --adapter caddyfile --config $$f > /dev/null || exit 1; \
		$(CADDY) validate --adapter caddyfile --config $$f > $(BIN)/validate.out 2>&1 || { cat $(BIN)/validate.out; exit 1; }; \
	done

# One package at a time: the integration tests use fixed ports.
unit:
	go test -race -p 1 -timeout 15m $$(go list ./... | grep -v /e2e)

# The test of crashes may go on for longer, and with the race detector in the program
# itself: make e2e ROUNDS=1000 RACE=1
ROUNDS ?= 24
e2e:
	ROUNDS=$(ROUNDS) go test -race -count 1 -timeout $$((15 + $(ROUNDS) / 20))m ./e2e

# Each fuzz target for a while: make fuzz FUZZTIME=5m
FUZZTIME ?= 30s
fuzz:
	@go list ./... | while read pkg; do \
		go test -list '^Fuzz' $$pkg | grep '^Fuzz' | while read target; do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done || exit 1; \
	done

bench:
	go test -run '^$$' -bench . -benchmem ./...

demo:
	go run ./cmd/caddy run --config Caddyfile.example

fmt: $(LINT)
	$(LINT) fmt ./...

clean:
	rm -rf $(BIN) .demo
