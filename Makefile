# `make demo` and `make test` set up everything they need in .venv and work without a network
# once that has been done. Another interpreter: make PYTHON=python3.13 demo
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check bench demo-model clean

demo: $(VENV)/.run
	$(BIN)/python -m harness validate

test: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# Trains the embedded model anew (some two hours on two cores); python -m harness.demo.embed puts the
# checkpoint in place, python -m harness.demo.chart draws what emerged.
demo-model: $(VENV)/.dev
	$(BIN)/python -m harness.demo.library demo-text
	$(BIN)/python -m harness fit -c configs/demo-fit.yaml

clean:
	rm -rf $(VENV) build *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
