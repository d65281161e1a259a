# Every target makes its own environment: Python 3.11 or later and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

.PHONY: demo test soak notebooks lint clean

demo: $(READY)
	$(BIN)/python -m flax_talk.demo --out out

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 10

soak: $(READY)
	$(BIN)/python -m pytest -m soak --durations 0

notebooks: $(READY)
	$(BIN)/jupytext --to ipynb colabs/*.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .cache out

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
