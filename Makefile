# Everything works on a clean clone with python3 (3.11 or newer), pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCALE ?= 1
DEMO ?= demo

.PHONY: demo test test-slow check validate bench clean

# The stamps are older than what they depend on only when something must be installed again.
$(VENV)/.user: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: $(VENV)/.user
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.user
	$(BIN)/cre demo --output $(DEMO) --scale $(SCALE) --overwrite

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --cov --cov-report=term --cov-fail-under=90

test-slow: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

validate: $(VENV)/.user
	$(BIN)/cre validate --output validation --overwrite

clean:
	rm -rf $(VENV) demo validation
