# `make help` lists the targets. Everything is installed below this folder: .venv and .tools.
PYTHON ?= python3
BIN := .venv/bin
SAM := .tools/sam/bin/sam
UV := .tools/uv/bin/uv
# Each file by one of three processes: the end-to-end tests wait more than they work, and each process has a stack of its own.
PARALLEL := -n 3 --dist loadfile
export SAM_CLI_TELEMETRY := 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos simulate lint check format build validate template local sam-local e2e lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.done .tools/sam/.done ## Make .venv with nightcrew and all it needs, and .tools with SAM

.venv/.done: locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "nightcrew needs Python 3.11 or newer: make setup PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv --clear .tools/uv
	.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/uv.txt
	$(UV) venv --quiet --clear --python $(PYTHON) .venv
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r locks/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.tools/sam/.done: locks/sam.txt .venv/.done
	$(UV) venv --quiet --clear --python $(PYTHON) .tools/sam
	$(UV) pip install --quiet --python .tools/sam/bin/python --no-deps --require-hashes -r locks/sam.txt
	@touch $@

demo: setup ## Run the nightly report end to end on this machine, without an AWS account
	$(BIN)/nightcrew demo

test: setup ## Run all tests that need nothing but this machine
	$(BIN)/python -m pytest -m "not chaos" $(PARALLEL)

chaos: setup ## Break the local stack on purpose: processes killed, events lost, disks full, deploys in the night
	$(BIN)/python -m pytest -m chaos

lint: setup ## Lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/sync_template.py --check
	$(BIN)/lint-imports
	$(BIN)/mypy

check: lint ## Lint, and the tests that take no local stack
	$(BIN)/python -m pytest -m "not local and not chaos" $(PARALLEL)

format: setup ## Format the code
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

template: setup ## Put the worker's bootstrap into template.yaml
	$(BIN)/python scripts/sync_template.py

build: setup ## Build functions and layers into .aws-sam
	PATH="$(CURDIR)/.venv/bin:$$PATH" $(SAM) build

validate: setup ## Validate and lint the template
	$(SAM) validate --lint --region us-east-1

local: setup ## Start the local stack and keep it
	$(BIN)/nightcrew local up

sam-local: setup ## Invoke every event of events/ in a container with `sam local invoke`
	scripts/sam_local.sh

e2e: setup ## Run the end-to-end tests on the local stack
	$(BIN)/python -m pytest -m "local and not chaos" $(PARALLEL)

simulate: setup ## Play SEEDS seeded nights of faults against the promises (default 2000)
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),2000)
	$(BIN)/python -m tests.simulation --exhaustive

lock: setup ## Renew the lock files
	$(UV) pip compile pyproject.toml locks/dev.in --extra local --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade -q -o locks/dev.txt
	$(UV) pip compile locks/sam.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade -q -o locks/sam.txt
	$(UV) pip compile locks/uv.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade -q -o locks/uv.txt
	$(UV) pip compile layers/deps/requirements.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --upgrade -q -o layers/deps/requirements.lock

clean: ## Remove everything that was made here
	-$(BIN)/nightcrew local down 2>/dev/null
	rm -rf .venv .tools .aws-sam .nightcrew .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
