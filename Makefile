# What a fresh machine with git, a C compiler and cargo needs to run Longhaul and to test it.

CARGO ?= cargo
# Options of `longhaul demo` or `longhaul-bench`, as in: make demo ARGS="--listen 127.0.0.1:9090"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo build check test downstream counts stock-pingora bench bench-quick bench-ratios image clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: build ## build, then run the gateway with three backends and a page to try it
	@exec target/release/longhaul demo $(ARGS)

build: ## build target/release/longhaul, installing cmake first where it is missing
	@tests/install.sh build
	$(CARGO) build --release --locked

check: ## formatting, lints, documentation, and the licenses and sources of what is depended on
	@tests/install.sh build
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/downstream/Cargo.toml
	$(CARGO) fmt --check --manifest-path bench/pingora/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features -- -D warnings
	tests/deny.sh
	cd bench && $(CARGO) fmt --check && $(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

test: ## check, and run every test, installing what they need first
	@tests/install.sh test
	$(MAKE) check
# The tests hold thousands of sockets: as many files as this machine allows.
	ulimit -n "$$(ulimit -Hn)" && $(CARGO) test --locked
	$(CARGO) test --locked --manifest-path bench/Cargo.toml
	$(CARGO) build --locked
	$(MAKE) downstream
	tests/browser.sh target/debug/longhaul
	tests/applications/run.sh target/debug/longhaul
	$(MAKE) counts

downstream: ## build and test a crate of the public interface alone, as somebody else would write it
# The versions and the build folder of the gateway, so that what it depends on is not built again.
	cp Cargo.lock tests/downstream/Cargo.lock
	CARGO_TARGET_DIR="$$PWD/target" $(CARGO) test --offline --manifest-path tests/downstream/Cargo.toml

counts: ## count the instructions of a message and of a handshake, and compare them with what is stated
	@tests/install.sh test
	$(CARGO) bench --locked --profile dev --bench counts

stock-pingora: build ## build the peer target/release/stock-pingora for the benchmarks
# The versions and the build folder of the gateway: the same build of Pingora, not built again.
	cp Cargo.lock bench/pingora/Cargo.lock
	CARGO_TARGET_DIR="$$PWD/target" $(CARGO) build --release --offline --manifest-path bench/pingora/Cargo.toml

bench: build stock-pingora ## measure Longhaul and other gateways side by side, about an hour: bench/results
	@bench/install.sh
	$(CARGO) build --release --locked --manifest-path bench/Cargo.toml
	bench/target/release/longhaul-bench --out bench/results $(ARGS)
	bench/target/release/longhaul-bench curves --out bench/results

bench-quick: build stock-pingora ## the same in about eleven minutes, less exactly; the table is printed only
	@bench/install.sh
	$(CARGO) build --release --locked --manifest-path bench/Cargo.toml
	bench/target/release/longhaul-bench --quick $(ARGS)

bench-ratios: build ## echoes and handshakes beside nginx and HAProxy, less than eight minutes; printed only
	@bench/install.sh
	$(CARGO) build --release --locked --manifest-path bench/Cargo.toml
	bench/target/release/longhaul-bench --quick --repeats 15 --peers longhaul,nginx,haproxy \
		--only echo1,echo64,echo1000,handshake $(ARGS)

image: ## build the container image without Docker and without a registry, as root, about 20 minutes
	packaging/build-image.sh

clean: ## remove what was built and what the browser test installed
	$(CARGO) clean
	rm -rf bench/target
	rm -rf tests/demo/node_modules
