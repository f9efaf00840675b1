# `make` lists what there is. Each target prepares what it needs by itself: see tests/tools/setup.sh.
SETUP := tests/tools/setup.sh

.DEFAULT_GOAL := help
.PHONY: help build demo test lean grid soak continuity restores fuzz simulate crash lab test-stores bench packages fmt

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /    make \1\t/p' $(MAKEFILE_LIST)

build: ## The optimised binary: target/release/lifeboat
	$(SETUP) cargo build --locked --release --bin lifeboat

demo: ## Back up a real etcd, destroy it, lay it out again, compare
	$(SETUP) cargo build --locked --bin lifeboat --bin etcd-load
	$(SETUP) tests/tools/demo.sh

test: ## Everything that CI checks
	$(SETUP) cargo fmt --check
	$(SETUP) cargo clippy --locked --all-targets -- -D warnings
	RUST_TEST_THREADS=$$(($$(nproc) * 2)) $(SETUP) cargo test --locked
	$(SETUP) tests/tools/deny.sh
	$(SETUP) cargo build --locked --bin lifeboat --bin etcd-load
	$(SETUP) tests/tools/demo.sh
	$(SETUP) tests/tools/check-example.sh

lean: ## What is built without the stores on the network, and that it says so
	$(SETUP) cargo check --locked --no-default-features
	$(SETUP) cargo test --locked --no-default-features --lib config::urls::tests::kinds_that_are_not_built_in

grid: ## A backup of each line of etcd, served by each: the table in docs/compatibility.md is written, and must stay as it was
	$(SETUP) cargo test --locked --test it -- --ignored --nocapture grid::

soak: ## Random histories on real servers of all lines, against a model (HISTORIES=10000, SEED=1)
	LIFEBOAT_HISTORIES=$(HISTORIES) LIFEBOAT_SEED=$(SEED) $(SETUP) cargo test --locked --test it -- --ignored --nocapture soak::

continuity: ## Deltas while members and agents are killed, stores and networks go away, against a recorder of the whole history (MINUTES=60, SEED=1; as root; ETCD=3.6.15; a version with known faults: ETCD=3.5.1, all of them: ETCD=faulty)
	LIFEBOAT_MINUTES=$(or $(MINUTES),60) LIFEBOAT_SEED=$(or $(SEED),1) LIFEBOAT_ETCD="$(ETCD)" $(SETUP) cargo test --locked --release --test it -- \
		--ignored --nocapture $(if $(filter 3.4.23 3.5.0 3.5.1 3.5.16 3.6.0 3.6.1 faulty,$(ETCD)),continuity::faulty::,continuity::as_long_a_life)

restores: ## Deltas are packed and backups removed under running restores (RESTORES=200)
	LIFEBOAT_RESTORES=$(or $(RESTORES),200) $(SETUP) cargo test --locked --release --test it -- --ignored --nocapture continuity::restores::

fuzz: ## What reads bytes of others, with samples that are changed at random (MINUTES=60 for each target, SEED=1, TARGET=manifest)
	LIFEBOAT_MINUTES=$(or $(MINUTES),1) LIFEBOAT_SEED=$(SEED) LIFEBOAT_TARGET=$(TARGET) \
		$(SETUP) cargo test --locked --test fuzz -- --nocapture whatever_comes

simulate: ## Simulations and properties with ten times as many random cases as `make test` takes (CASES=2560, SEEDS=1000)
	PROPTEST_CASES=$(or $(CASES),2560) LIFEBOAT_SEEDS=$(or $(SEEDS),1000) $(SETUP) cargo test --locked --lib

crash: ## The power is cut at every call, with what was not synced lost, torn or reordered (STATES=500 for each call, RUNS=500, SEED=1); `rewrap` is killed at each of its steps
	LIFEBOAT_STATES=$(or $(STATES),500) LIFEBOAT_RUNS=$(or $(RUNS),500) LIFEBOAT_SEED=$(SEED) \
		$(SETUP) cargo test --locked --test it -- --nocapture crash::
	LIFEBOAT_STRIDE=1 $(SETUP) cargo test --locked --test it -- --nocapture rewrap::

lab: ## Real systemd hosts with real etcds, as root (ARGS="words of names", ARGS="--suite bookworm", ARGS=--list)
	$(SETUP) cargo test --locked --test lab -- --must-run $(ARGS)

test-stores: ## What every store promises, on servers of each kind, Ceph and Swift among them, that it installs and starts (Debian, Python, Node.js)
	NEED="python3:python3 npm:npm curl:curl" $(SETUP) tests/tools/stores.sh

bench: ## Measure against etcd's own tools, side by side (SMALL=1: quickly, and no hosts); prints Markdown
	NEED="/usr/bin/time:time python3:python3 curl:curl" $(SETUP) cargo build --locked --release --bin lifeboat --bin etcd-load
	$(SETUP) tests/tools/bench.sh
	$(SETUP) tests/tools/bench-deltas.sh
	[ -n "$(SMALL)" ] || LIFEBOAT_LAB_BINARY=$(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/release/lifeboat \
		$(SETUP) cargo test --locked --test lab -- --figures

packages: ## The .deb and the .rpm: target/packages
	$(SETUP) cargo build --locked --release --bin lifeboat
	NEED="dpkg-deb:dpkg rpmbuild:rpm objdump:binutils lintian:lintian rpmlint:rpmlint" $(SETUP) packaging/build.sh
	$(SETUP) packaging/lint.sh

fmt: ## Format the code
	$(SETUP) cargo fmt
