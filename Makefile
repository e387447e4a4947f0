# The commands of the project. Each prepares what it needs; nothing has to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

SEED ?= 1
SECONDS ?= 240
GUIDED_SECONDS ?= 330
MINUTES ?= 10
COUNT ?= 20000

.DEFAULT_GOAL := help
.PHONY: help venv check test test-compose demo lab bench chaos audit campaign crash-points fuzz mutants lock format clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# The lock file is whole: --no-deps lets pip resolve nothing anew, which could choose what is newer than the lock.
venv: $(STAMP) ## create .venv with the locked dependencies and this project

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

check: $(STAMP) ## format, lint, types, layers and the tests that need no database
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit

test: $(STAMP) ## every test: embedded PostgreSQL, real sockets, real processes
	$(BIN)/pytest tests

test-compose: $(STAMP) ## the lab in containers: build, validate, restart and kill everything (Docker with Compose)
	$(BIN)/pytest tests/compose -m compose

demo: $(STAMP) ## the main job, once: start a lab, send, wait, print every step, stop
	$(BIN)/mini-pacs demo

lab: $(STAMP) ## the same lab in the foreground, for your own experiments
	$(BIN)/mini-pacs lab

bench: $(STAMP) ## measure against the peers that are installed (DCMTK, Orthanc)
	$(BIN)/pytest tests/benchmarks -m benchmark -s

chaos: $(STAMP) ## break everything under load, then count every instance: MINUTES=10 SEED=1
	PYTHONPATH=tests $(BIN)/python -m chaos --minutes $(MINUTES) --seed $(SEED) --json build/chaos/seed-$(SEED)-$(MINUTES)min.json

campaign: crash-points fuzz ## the long proof: every crash point, then the long fuzzing

crash-points: $(STAMP) ## die at every crash point of the flow, restart, and draw the ledger after each
	PYTHONPATH=tests $(BIN)/python -m campaign --json build/campaign/crash-points.json

fuzz: $(STAMP) ## garbage at every parser and at a running SCP, a million malformed PDUs: SECONDS=240 GUIDED_SECONDS=330 SEED=1
	$(BIN)/pip install --quiet --disable-pip-version-check --only-binary :all: -r requirements-fuzz.txt || echo "no atheris for this Python: its part is skipped"
	PYTHONPATH=tests $(BIN)/python -m fuzz.guided --seconds $(GUIDED_SECONDS) --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) --seed $(SEED)

mutants: $(STAMP) ## data sets made wrong, to the edge, Orthanc and storescp: who takes what: COUNT=20000 SEED=1
	PYTHONPATH=tests $(BIN)/python -m mutants --count $(COUNT) --seed $(SEED) --output build/mutants/seed-$(SEED)-$(COUNT)

audit: ## ask whether a locked dependency has a known vulnerability (skipped, with a message, without the service)
	.ci/audit $(PYTHON)

lock: ## renew requirements.lock and those of the images (needs uv)
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra lab --extra dev --output-file requirements.lock pyproject.toml
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements.lock --output-file images/edge/requirements.lock pyproject.toml
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements.lock --output-file images/edge/build.lock images/edge/build.in
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements.lock --output-file images/worker/requirements.lock images/worker/requirements.in

format: $(STAMP) ## apply the formatter and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what the commands above made
	rm -rf $(VENV) .venv-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
