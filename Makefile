# Two commands matter: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-cluster campaigns check format clean

help: ## Say what there is to make
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(INSTALLED) ## Run the whole chain on the sample scenes; results in runs/demo
	@$(BIN)/gearshift demo

test: check ## Check and test everything
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10

test-cluster: $(INSTALLED) ## Test on real parts of a cluster; needs Go once, to build them
	@$(BIN)/python tests/cluster/tools.py
	@GEARSHIFT_CLUSTER=1 $(BIN)/python -m pytest tests/cluster

campaigns: $(INSTALLED) ## Repeat the tests of random inputs and of kills at their full count: hours
	@GEARSHIFT_FULL_CAMPAIGNS=1 $(BIN)/python -m pytest -m campaign --timeout 7200

check: $(INSTALLED) ## Lint, formatting, types, and the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Bring the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## Remove the results and caches, not .venv
	rm -rf runs build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The lock is whole, so nothing is resolved again. uv takes its plain torch; pip may find a CPU build
# whose torchvision does not import. Compiled once, a pipeline's step starts in half the time also
# where Python is told to write no bytecode.
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@
