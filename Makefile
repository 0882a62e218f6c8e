# What a fresh machine with git, a C compiler and cargo needs to run Longhaul and to test it.

CARGO ?= cargo
# Options of `longhaul demo` or `longhaul-bench`, as in: make demo ARGS="--listen 127.0.0.1:9090"
ARGS ?=

# Seconds for each fuzz target, and the targets, all of them where none is named, as in: make fuzz TIME=1800 TARGET=heads
TIME ?= 60
TARGET ?=

# Cargo's profile of `make dist`: release, or dev for a trial.
PROFILE ?= release

# The folder that Cargo builds into. An absolute path, since some crates are built from a folder of their own.
ifdef CARGO_TARGET_DIR
override CARGO_TARGET_DIR := $(shell realpath -m "$(CARGO_TARGET_DIR)")
export CARGO_TARGET_DIR
endif
BUILT := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# Program of the benchmarks, whose crate is a workspace of its own.
BENCH := $(or $(CARGO_TARGET_DIR),bench/target)/release/longhaul-bench
# Option of that program which names the gateway, where that is not in its usual place.
MEASURED := $(if $(CARGO_TARGET_DIR),--longhaul "$(BUILT)/release/longhaul")

.DEFAULT_GOAL := help
.PHONY: help demo build check test site downstream counts probe fuzz fuzz-smoke stock-pingora bench bench-quick bench-ratios dist dist-test kubernetes image clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: ## build quickly, then run the gateway with three backends and a page to try it
	@echo "longhaul: 1 of 3: what compiling needs"
	@tests/install.sh build
	@echo "longhaul: 2 of 3: compiling, the first time some minutes on two cores; afterwards it is there"
	$(CARGO) build --profile demo --locked --no-default-features --features demo --bin longhaul
	@echo "longhaul: 3 of 3: starting $(BUILT)/demo/longhaul ($$(du -m "$(BUILT)/demo/longhaul" | cut -f 1) MB), Ctrl-C ends it"
	@exec "$(BUILT)/demo/longhaul" demo $(ARGS)

build: ## build target/release/longhaul, installing cmake first where it is missing
	@tests/install.sh build
	$(CARGO) build --release --locked

check: ## formatting, lints, documentation and its site, and the licenses and sources of what is depended on
	@tests/install.sh build
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/downstream/Cargo.toml
	$(CARGO) fmt --check --manifest-path packaging/template/Cargo.toml
	$(CARGO) fmt --check --manifest-path bench/pingora/Cargo.toml
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features -- -D warnings
	tests/deny.sh
	$(MAKE) site
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
	tests/browser.sh "$(BUILT)/debug/longhaul"
	tests/dashboard/run.sh "$(BUILT)/debug/longhaul"
	tests/applications/run.sh "$(BUILT)/debug/longhaul"
	tests/probe/run.sh "$(BUILT)/debug/longhaul"
	tests/tls_peer/run.sh "$(BUILT)/debug/longhaul"
	$(MAKE) fuzz-smoke
	tests/slowhttptest.sh "$(BUILT)/debug/longhaul"
	$(MAKE) counts

site: ## build the site of the documentation into target/site, and check its links
	@tests/install.sh site
	packaging/site/build.sh

downstream: ## build and test crates of the public interface alone, as somebody else would write them, the template among them
# The versions and the build folder of the gateway, so that what it depends on is not built again.
	cp Cargo.lock tests/downstream/Cargo.lock
	CARGO_TARGET_DIR="$(BUILT)" $(CARGO) test --offline --manifest-path tests/downstream/Cargo.toml
	cp Cargo.lock packaging/template/Cargo.lock
	cd packaging/template && CARGO_TARGET_DIR="$(BUILT)" $(CARGO) test --offline

counts: ## count the instructions of a message and of a handshake, and compare them with what is stated
	@tests/install.sh test
	$(CARGO) bench --locked --profile dev --bench counts

probe: ## send mutants of requests through the gateway and compare how they are read, as in: make probe ARGS="SEED COUNT"
	$(CARGO) build --locked
	tests/probe/run.sh "$(BUILT)/debug/longhaul" $(ARGS)

fuzz: ## run the fuzz targets, as in: make fuzz TIME=1800 TARGET=heads
	@tests/install.sh fuzz
	CARGO="$(CARGO)" fuzz/run.sh $(TIME) $(TARGET)

fuzz-smoke: ## the same for five seconds each
	$(MAKE) fuzz TIME=5 TARGET=

stock-pingora: build ## build the peer target/release/stock-pingora for the benchmarks
# The versions and the build folder of the gateway: the same build of Pingora, not built again.
	cp Cargo.lock bench/pingora/Cargo.lock
	CARGO_TARGET_DIR="$(BUILT)" $(CARGO) build --release --offline --manifest-path bench/pingora/Cargo.toml

bench: build stock-pingora ## measure Longhaul and other gateways side by side, about an hour: bench/results
	@bench/install.sh
	$(CARGO) build --release --locked --manifest-path bench/Cargo.toml
	"$(BENCH)" $(MEASURED) --out bench/results $(ARGS)
	"$(BENCH)" curves $(MEASURED) --out bench/results

bench-quick: build stock-pingora ## the same in about eleven minutes, less exactly; the table is printed only
	@bench/install.sh
	$(CARGO) build --release --locked --manifest-path bench/Cargo.toml
	"$(BENCH)" $(MEASURED) --quick $(ARGS)

bench-ratios: build ## echoes and handshakes beside nginx and HAProxy, less than eight minutes; printed only
	@bench/install.sh
	$(CARGO) build --release --locked --manifest-path bench/Cargo.toml
	"$(BENCH)" $(MEASURED) --quick --repeats 15 --peers longhaul,nginx,haproxy \
		--only echo1,echo64,echo1000,handshake $(ARGS)

dist: ## build packages into target/dist: .tar.gz, .deb, .rpm and their sums; a quick one by: make dist PROFILE=dev
	@tests/install.sh build
	CARGO="$(CARGO)" packaging/dist.sh $(PROFILE)

dist-test: dist ## try the packages: install, reload, upgrade under a tunnel, rotate, remove, in a Debian with systemd, as root
	packaging/test.sh

kubernetes: ## lint the Helm chart, and check the manifests against it and against the schemas of Kubernetes
	packaging/kubernetes/check.sh

image: ## build the container image without Docker and without a registry, as root, about 20 minutes
	packaging/build-image.sh

clean: ## remove what was built and what the browser test installed
	$(CARGO) clean
	rm -rf bench/target
	rm -rf tests/demo/node_modules
