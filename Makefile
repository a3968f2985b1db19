# Needs python3 (3.11 or newer) and make; everything else is installed into .venv.
#
#   make study                  run the default study        make study ARGS="--trials 64"
#   make test                   run every test               make test ARGS="tests/unit -k space"
#   make test-fast              run those that start no Ray
#   make test-faults            inject every fault and print what became of it (minutes; `make test` runs a short form)
#   make test-lowest            run test-fast on the lowest versions that pyproject.toml allows, in .venv-lowest
#   make coverage               run test-fast and print which lines it does not reach
#   make check                  style and types
#   make docs                   the documentation as a site, in build/site; make docs ARGS=serve shows it while it is written
#   make bench                  measure speed, part by part (an hour)    make bench NAME=step ARGS=--help
#   make clean                  remove the environments and tool caches; runs/ and the dataset cache stay

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check install -c constraints.txt
ARGS ?=

.PHONY: study test test-fast test-faults test-lowest coverage check docs bench clean

study: .venv/installed
	$(BIN)/python -m study.launch $(ARGS)

# A module's tests stay in one process, a process a core; the modules that start Ray come first (tests/conftest.py).
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
SPREAD := -n logical --maxprocesses 8 --dist loadscope --no-loadscope-reorder
FAST := $(SPREAD) -m "unit or contract or golden"

test: .venv/installed-dev
	$(PYTEST) $(or $(ARGS),$(SPREAD))

test-fast: .venv/installed-dev
	$(PYTEST) $(FAST) $(ARGS)

test-faults: .venv/installed-dev
	FAULTS=1 $(PYTEST) -o faulthandler_timeout=0 tests/faults $(ARGS)

test-lowest: .venv-lowest/installed
	$(subst $(BIN),.venv-lowest/bin,$(PYTEST)) $(FAST) $(ARGS)

coverage: .venv/installed-dev
	$(PYTEST) $(FAST) --cov --cov-report=term:skip-covered $(ARGS)

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build) --strict

# What docs/speed.md shows; each keeps its figures in benchmarks/results/. Others measure quality: see CONTRIBUTING.md.
SPEED := step data overhead startup reading scale

bench: .venv/installed-dev
ifdef NAME
	PYTHONPATH=. $(BIN)/python benchmarks/$(NAME).py $(ARGS)
else
	@for part in $(SPEED); do echo; echo "== $$part"; PYTHONPATH=. $(BIN)/python benchmarks/$$part.py || exit 1; done
endif

clean:
	rm -rf .venv .venv-lowest build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch first and alone: resolved together with the rest, pip may settle on another build of it and fetch both.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "Installing into .venv: a few minutes the first time, about 2 GB"
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[dev]'
	@touch $@

.venv-lowest/installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip --quiet --disable-pip-version-check install -c constraints-lowest.txt -e '.[dev]'
	@touch $@
