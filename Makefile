# Short names for what people type often. CI calls .ci/run, tests are ./test: nothing is only here.

.PHONY: help test lint dev bench
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

test: ## all tests, with their own Postgres and Redis
	./test

lint: ## format, clippy and rustdoc, as CI wants them
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace

dev: ## API, workers and dashboard in one process on one SQLite file
	cargo run --bin bursar -- dev --demo

bench: ## one workload, e.g. make bench WORKLOAD=W2
	cargo run --release --bin bursar -- bench $(or $(WORKLOAD),W1)
