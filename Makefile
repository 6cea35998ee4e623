# `make demo` and `make test` do all their own set-up on a machine with Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUFF_RULES := E,F,I,B,UP,RUF,SIM,C4,PT,N
ARGS ?=
# Of `make bench`: how large a log its pages are measured on; empty is 10,000,000 impressions.
PAGES ?= --impressions 1000000 --titles 4000

.PHONY: demo test bench lint clean

demo: $(VENV)/.ready
	$(BIN)/artwork-bandit demo $(ARGS)

# All tests, on all cores, then those that need the machine to themselves; or what ARGS names.
test: $(VENV)/.ready-test browser lint
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile -m "not alone"
	$(BIN)/python -m pytest -m alone
else
	$(BIN)/python -m pytest $(ARGS)
endif

bench: $(VENV)/.ready-test
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m simulations.bench $(ARGS)
	$(BIN)/python -m simulations.bench_pages $(PAGES)
	$(BIN)/python -m simulations.bench_pages --postgresql $(PAGES)

lint: $(VENV)/.ready-test
	$(BIN)/ruff check --isolated --quiet --line-length 100 --select $(RUFF_RULES) --ignore RUF001,RUF002,RUF036,N818 artwork_bandit migrations simulations tests
	$(BIN)/ruff format --isolated --quiet --check --line-length 100 artwork_bandit migrations simulations tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Chromium for the browser tests, where this machine lets us install it.
browser:
	@command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	echo "no Chromium and no right to install it: browser tests will be skipped"
.PHONY: browser

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.ready: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# Compiled afterwards, on all cores: pip uses one. A file that no Python can compile is nobody's loss.
$(VENV)/.ready-test: $(VENV)/bin/python setup.cfg
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test,report]'
	@$(BIN)/python -W ignore -m compileall -qq -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@touch $@ $(VENV)/.ready

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
