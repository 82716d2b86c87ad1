# vmferry's commands for developers. Each calls `setup`, which does nothing when all is there.

# Programs of the virtual environment, by path: nothing needs to be activated.
BIN := .venv/bin
# Test processes: one more than the cores that tests are made for, since tests of servers also wait.
WORKERS ?= 3
# Seconds that `make fuzz` takes in all, however many property tests there are.
SECONDS ?= 600
# Examples that `make fuzz` gives each property test instead, however long that takes.
EXAMPLES ?=

# Tests are rewritten and modules compiled once, and not again by each process that a run starts: a quarter of all work.
export PYTHONDONTWRITEBYTECODE :=

# A file's tests stay together, for what they share; files are begun in the order of tests/conftest.py, the long first.
PYTEST_WORKERS = -n $(WORKERS) --dist loadfile --no-loadscope-reorder

FUZZ = $(if $(EXAMPLES),--fuzz-examples $(EXAMPLES),--fuzz-seconds $(SECONDS))

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit check bench fuzz clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup:  ## make .venv with vmferry and all that the other targets need; twice does nothing
	@tools/setup

demo: setup  ## a real machine's way from OVA through S3 to an AMI that boots; KEEP=1 leaves the server up
	@$(BIN)/python tools/demo.py

test: setup  ## every test; with CI=true a skipped test is a failed one
	@$(BIN)/pytest $(PYTEST_WORKERS) $(PYTEST)

unit: setup  ## the fast tests, under a minute; property tests with a quarter of their examples
	@$(BIN)/pytest $(PYTEST_WORKERS) -m "not server and not slow" --example-share 0.25 $(PYTEST)

check: setup  ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup  ## measure against qemu-img and the other peers, same input, same machine
	@$(BIN)/python tools/bench.py $(BENCH)

fuzz: setup  ## the property tests, again and again, SECONDS=600 in all; or each with EXAMPLES=2000 examples
	@$(BIN)/pytest -n $(WORKERS) -m hypothesis $(FUZZ) --timeout 0 $(PYTEST)

clean:  ## remove what was built; .venv stays
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find src tests tools -name __pycache__ -prune -exec rm -rf {} +
