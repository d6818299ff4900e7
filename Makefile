# "make test" sets up what it needs and runs everything. It needs Go and make.

GOLANGCI_LINT_VERSION := v2.15.0
BIN                   := $(CURDIR)/bin
LINT                  := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
CADDY                 := $(BIN)/caddy
# Every configuration that is shipped. Each is formatted, adapted and validated.
CADDYFILES            := Caddyfile.example Caddyfile.v2.example $(wildcard examples/*.caddyfile) $(wildcard examples/*/Caddyfile)

.PHONY: test setup check lint configs unit e2e browser browser-setup fuzz bench demo fmt clean
.NOTPARALLEL:

test: setup check lint configs unit e2e browser

# The race detector needs a C compiler, and on Linux the tests of the program look at its
# system calls; Go fetches everything else by itself.
setup:
	@command -v cc > /dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update && apt-get install -y gcc libc6-dev; } || \
		{ echo "the race detector needs a C compiler; on Debian: apt-get install gcc libc6-dev"; exit 1; }
	@[ "$$(uname -s)" != Linux ] || command -v strace > /dev/null || \
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

# The checkout in a real browser: types, behavior, every state, and the examples.
BROWSER := e2e/browser
browser: browser-setup $(CADDY)
	cd $(BROWSER) && npm run --silent types
	@cd $(BROWSER) && for f in *.test.mjs; do echo "$$f"; CADDY=$(CADDY) node --test --test-reporter=spec $$f || exit 1; done

# Chromium, Hugo and Node.js come from the system; a missing one is an error that says
# what to install, or is installed where that is possible.
browser-setup: $(BROWSER)/node_modules/.package-lock.json
	@for need in chromium hugo; do \
		command -v $$need > /dev/null || \
			{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update && apt-get install -y --no-install-recommends $$need; } || \
			{ echo "the browser tests need $$need; on Debian: apt-get install $$need"; exit 1; }; \
	done

$(BROWSER)/node_modules/.package-lock.json: $(BROWSER)/package.json $(BROWSER)/package-lock.json
	@{ command -v node && command -v npm; } > /dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update && apt-get install -y nodejs npm; } || \
		{ echo "the browser tests need Node.js; on Debian: apt-get install nodejs npm"; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || { echo "the browser tests need Node.js 20 or newer"; exit 1; }
	cd $(BROWSER) && npm ci --no-audit --no-fund
	@touch $@

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
	rm -rf $(BIN) .demo $(BROWSER)/node_modules
