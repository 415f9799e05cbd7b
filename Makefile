# Two commands do all of the set-up: `make run` installs what a server needs, `make test` what developers need
# besides. The plain pip commands are in README.md.
PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
UPGRADE ?=
LOCK = uv pip compile --quiet --universal --python-version 3.11 --no-header --no-emit-index-url $(UPGRADE)
SEED ?= 1
N ?= 1000
SECONDS ?= 600
EXACT ?= tests/exact
CRASH ?= tests/crash

.PHONY: run test check more real crash exact chaos attack soak bench locks clean

run: .venv/ready
	$(BIN)/scheduler run --demo-bots

test: .venv/dev
	$(BIN)/python -m pytest -n auto

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Between a coffee and a night: what continuous integration runs besides, to stay below a quarter of an hour. Of `exact`
# and `crash` those parts whose length follows N; the rest of them tries everything there is, whatever N.
more: .venv/dev
	@echo "more: seed $(SEED); 40 written strategies, 150 kills on each database, 60 s of chaos"
	$(MAKE) exact N=40 EXACT=tests/exact/test_exact_written.py
	$(MAKE) crash N=150 CRASH=tests/crash/test_random_kills.py
	$(MAKE) chaos SECONDS=60

# Everything below is longer than a coffee. Each prints its seed and its counts.
real: .venv/dev
	ONEBAR_REAL=1 $(BIN)/python -m pytest -n auto tests/real

crash: .venv/dev
	ONEBAR_SEED=$(SEED) ONEBAR_N=$(N) $(BIN)/python -m pytest -n auto --timeout=0 $(CRASH)

exact: .venv/dev
	ONEBAR_EXACT=1 ONEBAR_SEED=$(SEED) ONEBAR_N=$(N) $(BIN)/python -m pytest -n auto -rP --timeout=0 $(EXACT)

chaos: .venv/dev
	ONEBAR_SEED=$(SEED) ONEBAR_CHAOS_SECONDS=$(SECONDS) $(BIN)/python -m pytest --timeout=0 tests/chaos

# Every fault of the database, a leader lost at every message of the protocol, every edit of a living bot, every wrong value
# of a row.
attack: .venv/dev
	ONEBAR_ATTACK=1 $(BIN)/python -m pytest --timeout=0 tests/chaos/test_database_faults.py tests/chaos/test_silent_loss.py
	ONEBAR_ATTACK=1 ONEBAR_SEED=$(SEED) $(BIN)/python -m pytest -n auto --timeout=0 \
		tests/jobs/test_edits_in_position.py tests/jobs/test_damaged_rows.py

soak:
	$(MAKE) chaos SECONDS=14400

bench: .venv/dev
	for file in tests/bench/*.py; do $(BIN)/python $$file || exit 1; done

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --requirement requirements.txt
	$(PIP) --no-deps --editable .
	touch $@

.venv/dev: .venv/ready requirements-dev.txt
	$(PIP) --requirement requirements-dev.txt
	touch $@

# New locks, for every Python and system at once; CONTRIBUTING.md says when. UPGRADE=--upgrade takes what is newest.
locks:
	$(LOCK) --output-file requirements.txt pyproject.toml
	$(LOCK) --constraint requirements.txt --extra test --extra check --output-file requirements-dev.txt pyproject.toml

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .import_linter_cache
