# `make help` lists the targets. Everything sets up what is missing first; a second run re-installs nothing.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .stamps
ARGS ?= --demo
TESTS ?= tests
# two workers, a file at a time: most of the time is waiting for browsers, databases and the network
PYTEST_ARGS ?= --numprocesses 2 --dist loadfile
PACKAGES := consult signaling media web migrations tests

.DEFAULT_GOAL := help
.PHONY: help run test check bench format generate clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(STAMPS)/run ## serve http://localhost:8080 with demo data (ARGS="…" passes other arguments to `consult serve`)
	@$(BIN)/consult serve $(ARGS)

test: $(STAMPS)/test $(STAMPS)/debian-test ## every test, with the real servers they need
	@$(BIN)/pytest $(TESTS) $(PYTEST_ARGS)

check: $(STAMPS)/test $(STAMPS)/node ## format, lint, types, import contracts, generated files
	@$(BIN)/ruff format --check $(PACKAGES)
	@$(BIN)/ruff check $(PACKAGES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@node_modules/.bin/tsc --project jsconfig.json
	@$(BIN)/python -m signaling.generate --check
	@$(BIN)/python -m web.catalogues --check

bench: $(STAMPS)/test $(STAMPS)/debian-test ## the figures, one JSON object per line
	@$(BIN)/python -m tests.bench

format: $(STAMPS)/test ## format and mend what can be mended
	@$(BIN)/ruff check --fix $(PACKAGES)
	@$(BIN)/ruff format $(PACKAGES)

generate: $(STAMPS)/test ## write the generated files anew
	@$(BIN)/python -m signaling.generate
	@$(BIN)/python -m web.catalogues

clean: ## remove what these targets made (not data/)
	rm -rf $(VENV) $(STAMPS) build node_modules *.egg-info

$(STAMPS)/venv:
	@mkdir -p $(STAMPS)
	@.ci/debian python3-venv:ensurepip
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@touch $@

$(STAMPS)/run: pyproject.toml | $(STAMPS)/venv
	@echo "Installing Consult into $(VENV) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# the test tools come with Consult itself: `make run` afterwards installs nothing
$(STAMPS)/test: pyproject.toml | $(STAMPS)/venv
	@echo "Installing Consult and its test tools into $(VENV) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(STAMPS)/run

$(STAMPS)/debian-test: .ci/debian
	@.ci/debian chromium firefox-esr postgresql redis-server:redis-server coturn:turnserver
	@touch $@

$(STAMPS)/node: package.json package-lock.json
	@.ci/debian nodejs:node npm
	@npm ci --silent --no-audit --no-fund
	@touch $@
