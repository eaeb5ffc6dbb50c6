PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(VENV)/installed ## Serve on http://127.0.0.1:8000 with an embedded PostgreSQL (PORT=9000 for another port)
	@$(BIN)/python -m dev.demo

psql: $(VENV)/installed ## Open psql on the data of `make run` (ARGS="-f sql/inspect/server.sql" to run a file)
	@$(BIN)/python -m dev.psql $(ARGS)

test: $(VENV)/installed ## Run the tests (ARGS="-k create" to choose)
	$(BIN)/python -m pytest -n auto $(ARGS)

test-better-auth: $(VENV)/installed ## Sign in with the real better-auth (wants Node.js 20 or newer)
	npm ci --prefix tests/better_auth --no-audit --no-fund --silent
	REQUIRE_BETTER_AUTH=1 $(BIN)/python -m pytest tests/better_auth

test-document: $(VENV)/installed ## Hold openapi.json against the service and TypeScript (wants Node.js 20 or newer)
	npm ci --prefix tests/document --no-audit --no-fund --silent
	REQUIRE_NODE=1 $(BIN)/python -m pytest -n auto tests/document

test-browser: $(VENV)/installed ## Try the page at /docs in Chromium (wants Node.js 20 or newer and Chromium)
	npm ci --prefix tests/browser --no-audit --no-fund --silent
	REQUIRE_BROWSER=1 $(BIN)/python -m pytest tests/browser

fuzz: $(VENV)/installed ## Send a few minutes of nonsense to a running service
	FUZZ_EXAMPLES=50000 $(BIN)/python -m pytest tests/process/test_fuzz.py

bench: $(VENV)/installed .venv-bench/installed ## Compare the speed with others (ROUNDS=3 SECONDS=3 WORKLOADS=mixed,get LATENCY_MS=3)
	@$(BIN)/python -m benchmarks.compare

bench-scale: $(VENV)/installed ## Measure the statements on 10,000,000 tasks (TASKS=1000000 for fewer)
	@$(BIN)/python -m benchmarks.scale

lint: $(VENV)/installed ## Check style and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(VENV)/installed ## Put the code into its one style
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean: ## Remove what was installed or made below this folder
	rm -rf .venv* .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: requirements.txt requirements-dev.txt
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name it with PYTHON=python3.13")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv-bench/installed: benchmarks/requirements.txt
	@echo "Installing into .venv-bench ..."
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

.PHONY: help run psql test test-better-auth test-document test-browser fuzz bench bench-scale lint format clean
