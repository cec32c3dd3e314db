# Every target installs what it needs and this machine lacks; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test lint bench fuzz

# sudo keeps neither the PATH nor the home of whoever called it, so look where rustup put Rust.
ifeq ($(shell command -v cargo 2>/dev/null),)
RUST_HOME := $(shell getent passwd "$${SUDO_USER:-$$(id -un)}" | cut -d: -f6)
export PATH := $(PATH):$(RUST_HOME)/.cargo/bin
export RUSTUP_HOME ?= $(RUST_HOME)/.rustup
endif

# The demo keeps its database and state below this folder and writes nothing outside the clone.
STANDALONE := $(CURDIR)/target/standalone

help: ## List these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

run: ## Build all and run agent and collector in one process on this machine
	@scripts/install-build-parts
	cargo build --release --bins
	@mkdir -p '$(STANDALONE)'
	@echo
	@echo 'The agent and the collector run in one process now; Ctrl-C ends it. Look at it with'
	@echo '  export OS_DEFAULT__STATE_PATH=$(STANDALONE)'
	@echo '  target/release/compute-ha status --config-file ceilometer_ha.conf'
	@echo 'and at http://127.0.0.1:9180/metrics (agent), http://127.0.0.1:9181/metrics (collector).'
	@echo
	@OS_DEFAULT__STATE_PATH='$(STANDALONE)' exec \
		target/release/ceilometer-ha-standalone --config-file ceilometer_ha.conf

test: lint ## Check format and lints, run every test
	@if cargo nextest --version >/dev/null 2>&1; \
		then set -x; cargo nextest run; \
		else set -x; cargo test --lib --bins --tests; \
	fi
	cargo test --doc

lint: ## Check format and lints
	@scripts/install-build-parts
	@scripts/install-test-parts
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --all-targets -- -D warnings
	@# The fuzzer has a lock of its own, which a changed dependency of ours makes stale.
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	@# Each package links only what it needs, so each must build alone.
	for part in agent collector decider; do \
		cargo clippy --no-default-features --features $$part --lib --bins -- -D warnings; \
	done

bench: ## Run the benchmarks
	@scripts/install-build-parts
	cargo bench

fuzz: ## Fuzz each target for a minute; scripts/fuzz does one for as long as you like
	@for target in $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs))); do \
		scripts/fuzz $$target 60; \
	done
