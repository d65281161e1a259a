# Every target makes its own environment: Python 3.11 or later and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

# Benchmarks of speed, each a script in benchmarks/ that takes --out and prints Markdown.
BENCHMARKS := generation training_step streaming batch dubbing cost startup metrics scaling
ARGS_streaming := --full --minutes 60
ARGS_batch := --rows 12 --dubs 4 --single 2 --rounds 1
ARGS_dubbing := --stages
BENCH := .venv-bench
RESULTS := out/benchmarks

.PHONY: demo test coverage soak bench notebooks reference lint clean

demo: $(READY)
	$(BIN)/python -m flax_talk.demo --out out

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 10

coverage: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report term:skip-covered

soak: $(READY)
	$(BIN)/python -m pytest -m soak --durations 0

notebooks: $(READY)
	$(BIN)/jupytext --to ipynb colabs/*.py

reference: $(READY)
	$(BIN)/python scripts/list_reference.py --out docs/reference.md

bench: $(BENCH)/.ready
	@mkdir -p $(RESULTS); failed=; measure() { \
	  name=$$1; shift; echo "== $$name"; \
	  $(BENCH)/bin/python benchmarks/$$name.py "$$@" --out $(RESULTS)/$$name.json \
	    > $(RESULTS)/$$name.md || failed="$$failed $$name"; \
	  cat $(RESULTS)/$$name.md; \
	}; $(foreach name,$(BENCHMARKS),measure $(name) $(ARGS_$(name));) \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(BENCH) .cache out

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(BENCH)/.ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip
	$(BENCH)/bin/python -m pip install --quiet --editable '.[bench]'
	touch $@
