# Two commands do everything, set-up included: `make demo` and `make test`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Targets share one build directory, and Cargo uses every core by itself.
.NOTPARALLEL:

# Downloads and build artefacts live outside the checkout: a second checkout reuses them.
export LIKENESS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/likeness
export CARGO_TARGET_DIR := $(LIKENESS_CACHE)/target

# Always the whole workspace: for `-p` Cargo unites the dependencies' features anew, and where they come out
# otherwise it compiles RocksDB a second time.
CARGO_ARGS := --release --workspace --locked
# The same, with debug assertions in our own packages.
CHECKED_ARGS := $(CARGO_ARGS) --config .config/checked.toml
NO_GRAPH_ARGS := --no-default-features --features likeness-cli/serve
BIN := $(CARGO_TARGET_DIR)/release/likeness

.PHONY: help demo test bench bench-peers search-load no-graph erasure-cost attack floods start-cost lint fmt clippy deny doc setup build assets api unit client checked

help: ## Show this list
	@echo "make demo   a guided tour on real photographs, from nothing"
	@echo "make test   the whole suite, from nothing"
	@echo
	@echo "Each does all set-up by itself. The first build takes long: RocksDB compiles for ten minutes"
	@echo "on two cores, once. Everything is cached in $(LIKENESS_CACHE)."
	@echo
	@echo "Parts of these:"
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | grep -v '^\(help\|demo\|test\) ' \
	| while read -r target what; do printf '  make %-12s %s\n' "$$target" "$$what"; done

demo: assets ## A guided tour on real photographs
	@$(BIN) demo

test: setup lint doc unit client ## The whole suite, as in CI
	@echo "skipped: the suite without the graph index (make no-graph)"

# What is checked in, for the comparison: a result that became worse must not become the measure of the next.
BEFORE := $(CARGO_TARGET_DIR)/likeness-bench/before.json

bench: assets ## Measure each stage, search and the calls over gRPC; fails if a ratio became worse
	cargo build $(CARGO_ARGS) --bin bench-summary --bin bench-compare
	rm -rf $(CARGO_TARGET_DIR)/likeness-bench && mkdir -p $(CARGO_TARGET_DIR)/likeness-bench
	git show HEAD:bench/results/main-path.json >$(BEFORE) 2>/dev/null || cp bench/results/main-path.json $(BEFORE)
	cargo bench --workspace --locked --bench '*' -- --quiet
	failed=; $(CARGO_TARGET_DIR)/release/bench-summary bench/results/main-path 'What the main path costs' 'make bench' \
	    pipeline grpc search || failed=1; \
	$(CARGO_TARGET_DIR)/release/bench-compare $(BEFORE) bench/results/main-path.json && [ -z "$$failed" ]

bench-peers: setup ## Our search beside FAISS, usearch and hnswlib; obtains them from PyPI
	cargo build $(CARGO_ARGS) --bin bench-search
	scripts/bench-peers.sh $(CARGO_TARGET_DIR)/release/bench-search

# In a folder on the disk that Cargo builds on: many a machine keeps /tmp in memory.
search-load: assets ## Searches beside enrolments and rebuilds, over gRPC, and a start, among LIKENESS_PEOPLE (100000); a graph of LIKENESS_GRAPH_PEOPLE
	cargo build $(CARGO_ARGS) --bin bench-load --bin bench-summary
	people=$${LIKENESS_PEOPLE:-100000}; graph=$${LIKENESS_GRAPH_PEOPLE:-$$people}; load=$(CARGO_TARGET_DIR)/release/bench-load; \
	home=$$(mktemp -d $(CARGO_TARGET_DIR)/likeness-start.XXXXXX); trap 'rm -r '$$home EXIT; \
	$$load fill $$home $$people; $$load start $$home; $$load flat $$people; $$load graph $$graph; \
	LIKENESS_PEOPLE=$$people cargo bench --workspace --locked --bench grpc -- --quiet; \
	$(CARGO_TARGET_DIR)/release/bench-summary $${LIKENESS_RESULTS:-bench/results/search-load} \
	    'Searches while other things go on' "LIKENESS_PEOPLE=$$people LIKENESS_GRAPH_PEOPLE=$$graph make search-load" \
	    start load-flat load-graph grpc-among

erasure-cost: setup ## What erasing costs; LIKENESS_PEOPLE=1000000 for a million
	cargo test $(CARGO_ARGS) --lib the_cost_of_erasing -- --ignored --nocapture

attack: setup ## What similarities give away, without limits and with them; figures in docs/limits.md
	cargo build $(CARGO_ARGS) --bin bench-attack
	$(CARGO_TARGET_DIR)/release/bench-attack

floods: assets ## What floods do to an honest client beside them, on loopback, in five minutes; fails if a goal is missed
	cargo build $(CARGO_ARGS) --bin bench-floods --bin bench-summary
	failed=; $(CARGO_TARGET_DIR)/release/bench-floods || failed=1; \
	$(CARGO_TARGET_DIR)/release/bench-summary $${LIKENESS_RESULTS:-bench/results/floods} \
	    'What floods do to an honest client' 'make floods' floods || failed=1; [ -z "$$failed" ]

start-cost: setup ## What a start costs; LIKENESS_PEOPLE=1000000 for a million
	@home=$$(mktemp -d) && trap 'rm -r '$$home EXIT && for run in fill measure again; do \
	    LIKENESS_START_DATA=$$home cargo test $(CARGO_ARGS) --lib what_a_start_costs -- --ignored --nocapture || exit 1; \
	done

api: setup ## Write docs/api.md and the list of what clients depend on anew, from the contract
	LIKENESS_WRITE=1 cargo test $(CHECKED_ARGS) --test contract

unit: checked ## The Rust tests
	cargo test $(CHECKED_ARGS)

no-graph: setup ## The Rust tests without the graph index (the feature `graph` off)
	cargo build $(CHECKED_ARGS) $(NO_GRAPH_ARGS) --bin likeness
	$(BIN) models fetch
	cargo test $(CHECKED_ARGS) $(NO_GRAPH_ARGS)

client: checked ## The client in Python, against a server of its own
	@scripts/test-python-client.sh $(BIN)

checked: setup
	cargo build $(CHECKED_ARGS) --bin likeness
	$(BIN) models fetch

setup: ## Install the system packages that are missing
	@scripts/setup.sh

build: setup ## Build the program
	cargo build $(CARGO_ARGS) --bin likeness

assets: build ## Obtain models, runtime and sample photographs
	@$(BIN) models fetch

lint: fmt clippy deny ## Formatting, clippy, and dependencies where cargo-deny is installed

# A toolchain without rustfmt or clippy can build and test; in CI nothing is skipped.
define or_skip
	@if cargo $(1) --version >/dev/null 2>&1; then echo "cargo $(2)"; cargo $(2); \
	elif [ "$${CI:-}" = true ]; then echo "$(1) is missing: rustup component add $(3)" >&2; exit 1; \
	else echo "skipped: cargo $(1) is not installed (rustup component add $(3))"; fi
endef

fmt:
	$(call or_skip,fmt,fmt --all --check,rustfmt)

# The program once more as a client alone, without the engine.
clippy: setup
	$(call or_skip,clippy,clippy $(CARGO_ARGS) --all-targets -- -D warnings,clippy)
	$(call or_skip,clippy,clippy $(CARGO_ARGS) --no-default-features --bin likeness -- -D warnings,clippy)

deny:
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny)"; fi

doc: setup ## The Rust documentation, with warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc $(CARGO_ARGS) --no-deps
