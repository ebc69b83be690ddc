# Everything that one does with this repository. `make help` lists it; the work itself is done by the scripts in .ci.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
PIPE := $(CURDIR)/.venv/bin/pipe

.PHONY: help setup setup-dev demo test test-fast lint bench clean lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Set up everything: .venv with pipe, Docker Engine, local images (quick when all is there)
	@.ci/setup

setup-dev:
	@.ci/setup dev

demo: setup ## Take samples/hello from build to a blue-green release on this machine
	@cd samples/hello && $(PIPE) run
	@printf '\n  `pipe` is ../../.venv/bin/pipe in samples/hello; `make clean` removes everything again\n'

test: setup-dev ## Run all tests
	@.ci/test

test-fast: ## Run the tests that need neither Docker nor PostgreSQL nor minutes
	@.ci/python dev
	@.venv/bin/python -m pytest -n 2 -m "not docker and not postgres and not slow"

lint: ## Check style, formatting and types
	@.ci/python dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench: setup-dev ## Measure against the floors and the peers
	@bench/peers.sh
	@sh bench/peers.sh || echo '· peers that could not be installed are left out' >&2
	@.venv/bin/python -m bench

clean: ## Remove this installation's containers, networks, volumes and images, and the local images
	@.ci/clean

lock: ## Write both lock files anew from pyproject.toml
	@.ci/lock
