# The commands of the project. Each installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUITE := build/dramatiq-suite/.fetched
DOCS_VENV := build/docs-venv
DOCS_STAMP := $(DOCS_VENV)/.installed
BUILD_VENV := build/release-venv
BUILD_STAMP := $(BUILD_VENV)/.installed

SEED ?= 1
SECONDS ?= 240
GUIDED_SECONDS ?= 330
MINUTES ?= 10
COUNT ?= 20000
CUTS ?= 40

# With this variable, each process that a test starts compiles the whole project first.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv check test test-compose demo lab bench bench-growth bench-page newer-orthanc docs pictures chaos audit campaign crash-points power-cuts fuzz mutants lock schema dashboard format release release-data clean edges quiet-edge

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# The lock file names every package. --no-deps keeps pip from choosing a newer version than the lock file has.
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

# Without a package index the suite is skipped with a message; in CI that fails.
$(SUITE): requirements-dramatiq-suite.txt $(STAMP)
	$(BIN)/pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes --dest $(@D) -r $< && touch $@ || echo "Dramatiq's sdist cannot be fetched: its own tests are not run"

test: $(STAMP) $(SUITE) ## every test but those in containers and the benchmarks: real PostgreSQL, sockets, processes
	$(BIN)/pytest tests

test-compose: $(STAMP) ## the lab in containers: build, validate, restart and kill everything (Docker with Compose)
	$(BIN)/pytest tests/compose -m compose

demo: $(STAMP) ## the whole flow once: start a lab, send, wait, print what happened, stop
	$(BIN)/mini-pacs demo

lab: $(STAMP) ## the same lab in the foreground, for experiments
	$(BIN)/mini-pacs lab

bench: $(STAMP) ## measure against the peers that are installed (DCMTK, Orthanc), and name what is worse than in the last run
	$(BIN)/pytest tests/benchmarks -m "benchmark and not growth" -s
	PYTHONPATH=tests $(BIN)/python -m support.wire_page

bench-growth: $(STAMP) ## measure the edge, its sweep, queue and console with a million instances and messages
	$(BIN)/pytest tests/benchmarks -m growth -s
	PYTHONPATH=tests $(BIN)/python -m support.wire_page

newer-orthanc: ## fetch the Orthanc of Debian 13 into build/newer-orthanc, a peer of make bench (root, debootstrap)
	tests/benchmarks/newer-orthanc

bench-page: $(STAMP) ## write what build/bench.json holds into docs/benchmarks.md, with its plots
	PYTHONPATH=tests $(BIN)/python -m support.wire_page

docs: $(DOCS_STAMP) ## build docs/ into build/docs/html; a broken link or anchor is an error
	$(DOCS_VENV)/bin/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --fresh-env -b html -d build/docs/doctrees docs build/docs/html
	@echo "built build/docs/html/index.html"

# status.svg needs a lab, those of the console Chromium, too, and viewer.png a Docker engine (tests/compose/engine/README.md).
# NAMES=gallery writes every page of the console into build/console, at three widths, light and dark.
pictures: $(STAMP) ## make the pictures of the documentation again, in docs/pictures: NAMES=status
	PYTHONPATH=tests $(BIN)/python -m pictures $(NAMES)

# Sphinx has a separate environment, because it is no dependency of the edge and not part of `make venv`.
$(DOCS_STAMP): requirements-docs.lock
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-docs.lock
	touch $(DOCS_STAMP)

# All checks come first; nothing is pushed. DRY=1 changes nothing and says what would be done.
release: $(STAMP) $(BUILD_STAMP) ## check, test, commit, tag and build a version into dist/: VERSION=0.3.0 DRY=1
	$(BIN)/python .ci/release.py --builder $(BUILD_VENV)/bin/python $(if $(DRY),--dry-run) "$(VERSION)"

release-data: $(STAMP) ## make the data of a release for the upgrade tests of later ones: VERSION=0.3.0 COMMIT=v0.3.0
	PYTHONPATH=tests $(BIN)/python -m released "$(VERSION)" $(COMMIT)

$(BUILD_STAMP): images/edge/build.lock
	$(PYTHON) -m venv $(BUILD_VENV)
	$(BUILD_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r images/edge/build.lock
	touch $(BUILD_STAMP)

chaos: $(STAMP) ## break everything under load, then count every instance: MINUTES=10 SEED=1 HOSPITAL=1
	PYTHONPATH=tests $(BIN)/python -m proof.chaos --minutes $(MINUTES) --seed $(SEED) $(if $(HOSPITAL),--hospital) --json build/chaos/$(if $(HOSPITAL),hospital-)seed-$(SEED)-$(MINUTES)min.json

campaign: crash-points fuzz ## all crash points, then the long fuzzing

crash-points: $(STAMP) ## kill a process at every crash point, restart it, and check every instance after each
	PYTHONPATH=tests $(BIN)/python -m proof.crash_points --json build/campaign/crash-points.json

power-cuts: $(STAMP) ## cut the power on three kinds of disk, as root, and check every instance after each: CUTS=40 SEED=1
	PYTHONPATH=tests $(BIN)/python -m proof.power_cuts --cuts $(CUTS) --seed $(SEED) --json build/power-cuts/seed-$(SEED)-$(CUTS)cuts.json

fuzz: $(STAMP) ## malformed data to every parser, and a million malformed PDUs to a running SCP: SECONDS=240 GUIDED_SECONDS=330 SEED=1
	$(BIN)/pip install --quiet --disable-pip-version-check --only-binary :all: -r requirements-fuzz.txt || echo "no atheris for this Python: its part is skipped"
	PYTHONPATH=tests $(BIN)/python -m proof.fuzz.guided --seconds $(GUIDED_SECONDS) --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m proof.fuzz --seconds $(SECONDS) --seed $(SEED)

mutants: $(STAMP) ## wrong data sets to the edge, Orthanc and storescp; compare who accepts what: COUNT=20000 SEED=1
	PYTHONPATH=tests $(BIN)/python -m proof.mutants --count $(COUNT) --seed $(SEED) --output build/mutants/seed-$(SEED)-$(COUNT)

edges: $(STAMP) ## break edges as root, ask diagnose what is wrong with each, mend them: NAMES="pacs processes"
	PYTHONPATH=tests $(BIN)/python -m proof.edges $(NAMES) --json build/edges/rows.json --markdown build/edges/table.txt

quiet-edge: $(STAMP) ## load a healthy edge, as root; diagnose must find nothing wrong: MINUTES=10
	PYTHONPATH=tests $(BIN)/python -m proof.quiet_edge --minutes $(MINUTES)

audit: ## ask whether a locked dependency has a known vulnerability (skipped, with a message, without the service)
	.ci/audit $(PYTHON)

lock: ## renew requirements.lock, and the lock files of the docs and the images (needs uv)
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra lab --extra highdicom --extra dev --output-file requirements.lock pyproject.toml
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group docs --output-file requirements-docs.lock
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements.lock --output-file images/edge/requirements.lock pyproject.toml
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements.lock --output-file images/edge/build.lock images/edge/build.in
	uv pip compile --quiet --no-strip-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements.lock --output-file images/worker/requirements.lock images/worker/requirements.in

dashboard: $(STAMP) ## write the dashboard of Grafana from .ci/dashboard.py
	$(BIN)/python .ci/dashboard.py

vendor: ## fetch the scripts of console/static/vendor from npm packages, and write their manifest (needs npm)
	$(PYTHON) .ci/vendor.py

schema: $(STAMP) ## write gateway/database/schema.sql from what the migrations make
	$(BIN)/python .ci/schema.py

format: $(STAMP) ## apply the formatter and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# For root in a folder that others cannot enter, the files of PostgreSQL are outside lab/; a link in lab/ leads to them.
clean: ## remove what the commands above made, the lab with its images included
	case "$$(readlink lab/postgres)" in /var/tmp/mini-pacs-*/postgres) rm -rf "$$(dirname "$$(readlink lab/postgres)")";; esac
	rm -rf lab $(VENV) .venv-audit .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
