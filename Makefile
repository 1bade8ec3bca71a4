# Each target sets itself up: Python 3.11 or newer, with pip, is all that must be there.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# `make test PYTEST_ARGS=` runs the slow tests too.
PYTEST_ARGS ?= -m "not slow"

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs reference bench coverage clean

help:  ## Lists the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "isotrace needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

# Users' dependencies alone: quick.
$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]'
	@touch $@

# Dependency groups need pip 25.1.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[all]' --group dev
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime  ## Records a small agent, parts two runs, replays one offline
	@$(BIN)/isotrace demo

test: $(VENV)/.dev  ## Runs the tests (PYTEST_ARGS= for the slow ones too)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.dev  ## Lint, format, types, floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Formats the code and mends what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

reference: $(VENV)/.dev  ## Writes the generated pages of docs/reference
	$(BIN)/python scripts/reference.py

docs: reference  ## Builds the site into site/
	$(BIN)/zensical build --clean --strict

bench: $(VENV)/.dev  ## Runs the benchmarks
	$(BIN)/python -m benchmarks

coverage: $(VENV)/.dev  ## Runs the tests and reports what they leave out
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

clean:  ## Removes what was built, and the environment
	rm -rf $(VENV) build dist site .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
