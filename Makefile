# Everything works on a clean clone with python3 (3.11 or newer), pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= 1
DEMO ?= demo

.PHONY: demo test test-slow test-train test-condor check validate bench clean

# The stamps are older than what they depend on only when something must be installed again.
$(VENV)/.user: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[hepdata]'
	touch $@

$(VENV)/.dev: $(VENV)/.user
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.user
	$(BIN)/cre demo --output $(DEMO) --scale $(SCALE) --overwrite

$(VENV)/.train: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train]'
	touch $@

# Without PyTorch: what trains and exports networks is tested by test-train.
test: $(VENV)/.dev
	@echo "tests/train is left out here, it needs PyTorch: make test-train; tests/batch too: make test-condor"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" --ignore=tests/train --ignore=tests/batch --cov --cov-report=term --cov-fail-under=90

test-slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --ignore=tests/train --ignore=tests/batch

test-train: $(VENV)/.train
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/train

# A real HTCondor and a real Slurm in namespaces of their own: needs root, see tests/batch/README.md.
test-condor: $(VENV)/.dev
	tests/batch/run.sh $(abspath $(BIN))/python

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# With PyTorch, because a user's program with it is one of those compared with. BENCH_SCALE=0.1 for a short one.
bench: $(VENV)/.train
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fit
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.inference

validate: $(VENV)/.user
	$(BIN)/cre validate --output validation --overwrite

clean:
	rm -rf $(VENV) demo validation
