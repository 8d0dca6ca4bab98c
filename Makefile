# Everything a person or CI runs. `make` alone lists the targets.
#
# Each target sets itself up: it makes .venv with `python3 -m venv` and installs ddrl into it under
# constraints.txt, once, and again only when pyproject.toml or constraints.txt has changed.
#
#   make demo PYTHON=python3.12          another interpreter
#   make demo PIP_ARGS="--index-url ..." more arguments for `pip install`

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=

PY := $(VENV)/bin/python
DDRL := $(VENV)/bin/ddrl
VENV_READY := $(VENV)/.stamp-venv
RUN_READY := $(VENV)/.stamp-run
DEV_READY := $(VENV)/.stamp-dev
INPUTS := pyproject.toml constraints.txt

# A small model on two threads beside another job runs many times slower than on one.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(PY) -m pytest
WORKERS ?= 2
# A file's tests share what is costly to make, so one worker runs them all.
BY_FILE := --dist loadfile --no-loadscope-reorder

# Material for MkDocs tells of its successor at every start.
SITE := NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs

##@ The two commands of the README

.PHONY: demo
demo: $(RUN_READY) ## train with DDRL and without a regularizer, compare the two (runs/demo/report.html)
	$(DDRL) train recipes/digits.toml
	$(DDRL) train recipes/digits.toml objective.regularizer=none run.folder=runs/digits-no-regularizer
	$(DDRL) evaluate runs/digits runs/digits-no-regularizer --out runs/demo

.PHONY: test
test: $(DEV_READY) ## every fast test
	$(PYTEST) -n $(WORKERS) $(BY_FILE)

##@ For a change

.PHONY: check
check: $(DEV_READY) ## lint, format, types, the site and tests: what CI runs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(SITE) build --strict --quiet
	$(PYTEST) -n $(WORKERS) $(BY_FILE)

.PHONY: fix
fix: $(DEV_READY) ## apply the linter's fixes and the format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

.PHONY: test-slow
test-slow: $(DEV_READY) ## the tests that take minutes each
	$(PYTEST) -n $(WORKERS) -m "slow and not gpu" --timeout 3600

.PHONY: mutants
mutants: $(DEV_READY) ## plant some hundred faults and count what tests miss; half an hour
	$(ONE_THREAD) $(PY) -m tests.mutants.run --jobs $(WORKERS)

.PHONY: bench
bench: $(DEV_READY) ## measure speed; results go to benchmarks/results
	@set -e; for file in benchmarks/bench_*.py; do \
	    [ -e "$$file" ] || { echo "error: there is no benchmarks/bench_*.py" >&2; exit 2; }; \
	    echo "$(PY) $$file"; $(ONE_THREAD) $(PY) "$$file"; \
	done

# Each command ends within ten minutes; docs/gpu.md says what it gives.
OUT ?= benchmarks/results

.PHONY: gpu
gpu: $(DEV_READY) ## measure and check on a GPU, half an hour (OUT=folder for results)
	$(PY) benchmarks/gpu_facts.py --seconds 55 --out $(OUT)
	$(PY) -m pytest tests/gpu -m gpu -q
	$(PY) benchmarks/memory_evidence.py --cases 3 --seconds 140 --out $(OUT)
	PYTORCH_ALLOC_CONF=expandable_segments:True $(PY) benchmarks/real_size.py --model sd3,wan33 --seconds 480 --out $(OUT)
	$(PY) benchmarks/words_gpu.py --seconds 530 --out $(OUT)

.PHONY: docs
docs: $(DEV_READY) ## write what is made from code and results: pages, figures in sentences, charts
	$(PY) docs/generate.py
	$(PY) docs/figures.py
	$(PY) docs/hacking_pictures.py

.PHONY: site
site: $(DEV_READY) ## the documentation as a site, as it is written: http://127.0.0.1:8000
	$(SITE) serve

.PHONY: pictures
pictures: $(DEV_READY) ## draw all pictures of docs/, those of finished runs too
	$(PY) docs/figures.py --runs
	$(PY) docs/hacking_pictures.py --runs

.PHONY: evidence
evidence: $(DEV_READY) ## measure everything again (hours), then write pages and pictures
	$(PY) benchmarks/evidence.py

##@ The house

.PHONY: setup
setup: $(DEV_READY) ## make .venv with everything that development needs
	@echo "Ready: source $(VENV)/bin/activate"

.PHONY: package
package: $(DEV_READY) ## build wheel and sdist into dist/ and check what they say of themselves
	$(PY) -m pip install --quiet $(PIP_ARGS) "build>=1.2" "twine>=6.1"
	rm -rf dist
	$(PY) -m build --no-isolation --outdir dist .
	$(PY) -m twine check --strict dist/*

.PHONY: clean
clean: ## remove caches and build outputs; .venv and runs/ stay
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . \( -path ./$(VENV) -o -path ./.git -o -path ./runs \) -prune -o \
	    -type d -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
	    /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	    /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# Set-up. A stamp is written only when its step has succeeded, so an interrupted one is done again;
# and all of it is done again when the environment's interpreter is gone.

ifeq ($(wildcard $(PY)),)
.PHONY: $(VENV_READY)
endif

$(VENV_READY):
	@command -v $(PYTHON) >/dev/null || { \
	    echo "error: $(PYTHON) was not found; ddrl needs Python 3.11 or newer." >&2; \
	    echo "hint: install it, or name another one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "error: ddrl needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1)." >&2; \
	    echo "hint: name a newer one: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "error: $(PYTHON) can't make virtual environments: its venv or ensurepip module is missing." >&2; \
	    echo "hint: on Debian and Ubuntu, install the package python3-venv." >&2; exit 2; }
	@if ! $(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); fi
	@touch $@

$(RUN_READY): $(VENV_READY) $(INPUTS)
	@echo "Installing ddrl into $(VENV) (the first time takes some minutes)"
	$(PY) -m pip install --constraint constraints.txt $(PIP_ARGS) --editable .
	@touch $@

# What development needs holds what running needs: one installation serves both stamps.
$(DEV_READY): $(VENV_READY) $(INPUTS)
	@echo "Installing ddrl and its development tools into $(VENV) (the first time takes some minutes)"
	$(PY) -m pip install --constraint constraints.txt $(PIP_ARGS) --editable ".[dev,docs,hub,models,ocr,parquet,serve]"
	@touch $(RUN_READY) $@
