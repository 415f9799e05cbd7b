# Two commands do all of the set-up: `make run` and `make test`. The plain pip commands are in README.md.
PYTHON ?= python3
BIN := .venv/bin
SEED ?= 1
N ?= 1000
SECONDS ?= 600

.PHONY: run test check real crash exact chaos soak bench clean

run: .venv/ready
	$(BIN)/scheduler run --demo-bots

test: .venv/ready
	$(BIN)/python -m pytest -n auto

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Everything below is longer than a coffee. Each prints its seed and its counts.
real: .venv/ready
	ONEBAR_REAL=1 $(BIN)/python -m pytest -n auto tests/real

crash: .venv/ready
	ONEBAR_SEED=$(SEED) ONEBAR_N=$(N) $(BIN)/python -m pytest -n auto --timeout=0 tests/crash

exact: .venv/ready
	ONEBAR_EXACT=1 ONEBAR_SEED=$(SEED) ONEBAR_N=$(N) $(BIN)/python -m pytest -n auto --timeout=0 tests/exact

chaos: .venv/ready
	ONEBAR_SEED=$(SEED) ONEBAR_CHAOS_SECONDS=$(SECONDS) $(BIN)/python -m pytest --timeout=0 tests/chaos

soak:
	$(MAKE) chaos SECONDS=14400

bench: .venv/ready
	for file in tests/bench/*.py; do $(BIN)/python $$file || exit 1; done

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .import_linter_cache
