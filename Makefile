# Works on a machine with nothing but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test soak lint docs bench clean

run: .venv/plot
	$(BIN)/python examples/single_neuron.py

test: .venv/test
	$(BIN)/python -m pytest -n auto --dist worksteal

# SOAK=10 is a tenth of it, SEED=1 another one.
soak: .venv/test
	$(BIN)/python -m pytest tests/faults --soak=$(or $(SOAK),100)

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: .venv/docs
	$(BIN)/mkdocs build --quiet --strict --site-dir build/site

bench: .venv/bench
	$(BIN)/python benchmarks/run.py

# One stamp an extra: installed again when pyproject.toml changes.
.venv/%: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[$*]"
	@touch $@

.venv/lint: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable ".[test,lint]"
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
