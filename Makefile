# Everything a person does with this tree. `make` alone prints the targets.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
FOREIGN := bench/node/node_modules/.package-lock.json
WORKERS ?= 2
SEEDS ?= 1..20
export PYTHON PREFIX DESTDIR PIP_ARGS PURGE KEEP
# With it set no bytecode is written, and every start compiles a hundred modules anew.
unexport PYTHONDONTWRITEBYTECODE
# REQUIRE=1: a missing tool fails a test instead of skipping it.
ifdef REQUIRE
export MESHD_REQUIRE_ALL := $(REQUIRE)
endif

PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check install $(PIP_ARGS)
# The strict editable mode puts a finder in front of every start of Python (15 ms); this one is a line in a .pth file.
EDITABLE := --config-settings editable_mode=compat --editable

.DEFAULT_GOAL := help
.PHONY: help demo test fast e2e check lab bench sim month fuzz lint docs install uninstall clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## three daemons found, join and talk, on this machine alone; KEEP=1 keeps them up
	@$(BIN)/python -m demo.three_daemons

test: lint fast e2e ## everything that needs no root: lint, fast tests, real daemons end to end

sim: $(VENV)/.runtime ## the simulator: every dialogue under twenty seeds (SEEDS=A..B), then meshes of up to thousands; hours
	@$(BIN)/python -m meshd.sim all --seeds $(SEEDS)
	@mkdir -p build
	@$(BIN)/python -m meshd.sim scale --json build/sim.jsonl

month: $(VENV)/.runtime ## a month of fifty members in the simulator, with its figures: half an hour; SEEDS=N for another
	@$(BIN)/python -m meshd.sim month --seeds $(if $(filter-out 1..20,$(SEEDS)),$(SEEDS),1)

fuzz: $(VENV)/.dev ## look for inputs that break a decoder or SCTP; SECONDS=60 for each target, ONLY="TARGET ..."
	@$(PIP) $(EDITABLE) '.[dev,fuzz]'
	@$(BIN)/python tests/fuzz/run.py $(or $(SECONDS),60) $(ONLY)

lint: $(VENV)/.dev ## ruff and mypy --strict
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary -p meshd -p meshctl -p demo -p bench

fast: $(VENV)/.dev ## the tests that start no daemon
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m "not e2e and not root"

e2e: $(VENV)/.dev ## real daemons end to end
	@$(BIN)/python -m pytest -q -n $(WORKERS) -m "e2e and not root"

check: $(VENV)/.interop $(FOREIGN) ## the tests that need root and Debian packages: real systemd, namespaces, browsers
	@$(BIN)/python -m pytest -q -m root

lab: $(VENV)/.dev ## as root: two homes behind every pair of routers, every way through; the table goes into docs/links.md
	@$(BIN)/python tests/lab/table.py
	@$(BIN)/python tests/lab/uncommon.py
	@$(BIN)/python tests/lab/staying_up_table.py

bench: $(VENV)/.bench build/emulator ## the figures, side by side with others; FULL=1: five seeds of 60 s; ONLY="NAME ..."
	@$(BIN)/python -m bench $(if $(FULL),--full) $(if $(PAGE),--page) $(if $(ONLY),--only $(ONLY))

build/emulator: bench/emulator/emulator.c
	@mkdir -p build
	@cc -O2 -Wall -Wextra -o $@ $< || echo "cc is missing: apt install gcc libc6-dev; the rows with delay and loss are left out" >&2

docs: $(VENV)/.runtime ## write the generated pages anew
	@$(BIN)/python -m meshd.control.document > docs/control-api.md
	@$(BIN)/python -m meshd.daemon.document_config
	@$(BIN)/python -m meshd.daemon.document_log
	@$(BIN)/python tests/docs/generated.py

install: ## as root: into PREFIX (/opt/meshd), with units, account and completion; again is the upgrade
	@systemd/install.sh install

uninstall: ## as root: take all that away; PURGE=1 removes state, configuration and account too
	@systemd/install.sh uninstall

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) .venv-bench bench/node/node_modules build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# WebRTC implementations that are not ours, for tests and bench. Where npm is missing, so are they, and tests say so.
$(FOREIGN): bench/node/package-lock.json
	@echo "Installing the peers that are not ours ..."
	@command -v npm >/dev/null && npm --prefix bench/node ci --silent --no-audit --no-fund || true

# Web Push of others, in Python.
$(VENV)/.interop: $(VENV)/.dev
	@echo "Installing the push senders and services that are not ours ..."
	@$(PIP) $(EDITABLE) '.[dev,interop]'
	@touch $@

# What the bench compares with. None of it is needed: who is missing is a row that says so.
$(VENV)/.bench: $(VENV)/.dev $(FOREIGN)
	@echo "Installing what the bench compares with ..."
	@$(PIP) $(EDITABLE) '.[dev,bench]' || true
	@for python in python3.14 python3.13 python3.12 $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python3; do \
		$$python -c '' 2>/dev/null && $$python -m venv .venv-bench 2>/dev/null && \
		.venv-bench/bin/python -m pip --quiet --quiet --disable-pip-version-check install 'aiolibdatachannel>=2026.10' && break; \
	done || true
	@touch $@

$(VENV)/.python:
	@command -v git >/dev/null || { echo "git is missing: apt install git" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11; name another with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "python3-venv is missing: apt install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: pyproject.toml | $(VENV)/.python
	@echo "Installing what the daemon needs ..."
	@$(PIP) $(EDITABLE) .
	@$(BIN)/python -m compileall -q meshd meshctl
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "Installing what the tests need ..."
	@$(PIP) $(EDITABLE) '.[dev]'
	@touch $@
