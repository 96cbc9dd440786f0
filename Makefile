.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
REDOCLY := $(VENV)/redocly
CLIENT_EXTRAS := --extra cli --extra pandas --extra polars --extra receipts
# They wait for processes more than they compute.
TESTS_AT_ONCE ?= 4
COMPILE = $(VENV)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(UPGRADE) \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: $(READY) ## the main job end to end on this machine, with real processes and a sandbox Asana
	@$(BIN)/asana-exports demo

serve: $(READY) ## the service, with its docs and a first API key, until Ctrl-C
	@$(BIN)/asana-exports up --sandbox

test: $(READY) ## all tests, on real Postgres and real processes
	$(BIN)/pytest --numprocesses=$(TESTS_AT_ONCE)

chaos: $(READY) ## thousands of exports while everything goes wrong; SEED=7 MINUTES=5 EXPORTS=10000
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(EXPORTS),--exports $(EXPORTS))

image: $(READY) ## the steps of the Dockerfile in a clean root, and each command in it; as root, with debootstrap
	$(BIN)/python -m tests.image

mutation: $(READY) ## take each guard out of a copy of the code and see a test fail; AT_ONCE=4 GUARD='scopes of keys'
	$(BIN)/python -m tests.mutation $(if $(AT_ONCE),--at-once $(AT_ONCE)) $(if $(GUARD),'$(GUARD)')

check: $(READY) $(REDOCLY)/.ready ## formatting, lint, types, import rules, vulnerabilities, the description of the API
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python client/generate.py --check
	$(BIN)/python requirements/audit.py requirements/runtime.txt
	$(BIN)/asana-exports openapi > $(REDOCLY)/openapi.json
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true $(BIN)/node \
	  $(REDOCLY)/node_modules/@redocly/cli/bin/cli.js lint --config requirements/redocly/redocly.yaml \
	  $(REDOCLY)/openapi.json

client: $(READY) ## write what of the Python client follows from the service: models, problems, the sync face
	$(BIN)/python client/generate.py

benchmarks: $(READY) ## what is promised of speed, against peers and limits; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks

docs: $(READY) ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: $(READY) ## rewrite the code the way `make check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A linter of OpenAPI documents, run by the node of the development lock.
$(REDOCLY)/.ready: requirements/redocly/package-lock.json $(READY)
	@mkdir -p $(REDOCLY) && cp requirements/redocly/package.json requirements/redocly/package-lock.json $(REDOCLY)
	@$(BIN)/npm ci --silent --no-audit --no-fund --prefix $(REDOCLY)
	@touch $@

lock: | $(BIN)/npm ## lock new dependencies, for every platform at once; UPGRADE=--upgrade takes the newest of all
	$(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install --quiet uv
	$(COMPILE) --output-file requirements/dev.txt --extra dev --extra traces $(CLIENT_EXTRAS) pyproject.toml client/pyproject.toml
	$(COMPILE) --output-file requirements/runtime.txt --constraint requirements/dev.txt --extra cli --extra traces pyproject.toml client/pyproject.toml
	$(COMPILE) --output-file requirements/build.txt --group build
	$(COMPILE) --output-file requirements/sdk.txt --no-deps --group sdk
	$(BIN)/npm install --silent --package-lock-only --no-audit --no-fund --prefix requirements/redocly

clean: ## remove the environment and the caches, not the data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info

$(BIN)/npm:
	@$(MAKE) $(READY)

# One environment, made from the hashed lock; the stamp makes a second call instant.
$(READY): requirements/dev.txt requirements/sdk.txt pyproject.toml client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@$(PYTHON) -m venv --clear $(VENV) || { echo "python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the locked dependencies into $(VENV) ..."
	@if command -v uv >/dev/null; then \
	  uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable . --editable client && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target $(VENV)/sdk -r requirements/sdk.txt; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable client && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $(VENV)/sdk -r requirements/sdk.txt; \
	fi
	@touch $@

.PHONY: help run serve test chaos image mutation check client benchmarks docs format lock clean
