# Bare `make` explains itself; every target sets up what it needs first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-integration test-e2e check bench assets update clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

help: ## Show this list
	@echo "Kubeocean: many physical clusters, one virtual cluster."
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo
	@echo "  KEEP=1 make demo leaves the demo running. First use builds real control planes from source: about 8 minutes."

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Kubeocean needs Python 3.11 or newer; found $$($(PYTHON) -V). Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "==> Python environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# The lock is complete; without --no-deps an old pip takes an extra (coverage[toml]) for a package nobody pinned.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY) ## Start a virtual and two physical clusters, lease, deploy, watch it work (KEEP=1 leaves it up)
	@$(BIN)/kubeocean demo $(if $(KEEP),--keep)

test: test-unit test-integration test-e2e ## Run every test: unit, on real control planes, in real containers

test-unit: $(READY) ## Run the tests that need no cluster
	@$(BIN)/python -m pytest tests/unit -q --cov=kubeocean --cov-report=

test-integration: $(READY) assets ## Run the tests on real control planes
	@$(BIN)/kubeocean sandbox assets --metrics-server >/dev/null  # only these run it; three minutes more, once
	@$(BIN)/python -m pytest tests/integration -q --timeout 300

test-e2e: $(READY) assets ## Run the tests in real containers; skipped without root or containerd
	@$(BIN)/python -m pytest tests/e2e -q --timeout 300

check: $(READY) ## Lint, type-check, check the layers and that generated files are up to date
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@set -e; for verify in $(filter-out hack/verify-generated,$(wildcard hack/verify-*)); do $$verify; done

bench: $(READY) assets ## Measure a burst of Pods: direct, floor, ceiling and federated in one run
	@$(BIN)/kubeocean bench burst --pods 500 --nodes 50

assets: $(READY) ## Find or build the real Kubernetes binaries (once; about 8 minutes)
	@$(BIN)/kubeocean sandbox assets $(if $(filter 0,$(shell id -u)),--kubelet)  # only root can have real nodes

update: $(READY) ## Regenerate what is generated
	@set -e; for update in hack/update-*; do $$update; done

clean: ## Stop all your sandboxes; remove the Python environment and caches of this checkout
	@if test -x $(BIN)/kubeocean; then $(BIN)/kubeocean sandbox down --all || true; fi
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
