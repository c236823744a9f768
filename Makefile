# Two commands matter: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
USABLE := .venv/.usable
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-cluster test-pods campaigns check format clean

help: ## Say what there is to make
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

demo: $(USABLE) ## Run the whole chain on the sample scenes; results in runs/demo
	@$(BIN)/gearshift demo

test: check ## Check and test everything
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 10

test-cluster: $(INSTALLED) ## Test on real parts of a cluster; needs Go once, to build them
	@$(BIN)/python tests/cluster/tools.py
	@GEARSHIFT_CLUSTER=1 $(BIN)/python -m pytest tests/cluster

test-pods: $(INSTALLED) ## Test real pods of a real kubelet under load; needs root, containerd, buildah
	@$(BIN)/python tests/cluster/tools.py --node
	@PYTHONPATH=tests/cluster $(BIN)/python tests/cluster/node/node_images.py
	@GEARSHIFT_NODE=1 tests/cluster/node/run_alone $(BIN)/python -m pytest tests/cluster/node \
		--timeout 1800 --durations 0

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

# The locks are whole, so nothing is resolved again. uv takes its plain torch; pip may find a CPU build
# whose torchvision does not import. Compiled once, a pipeline's step starts in half the time also
# where Python is told to write no bytecode.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps
$(USABLE): requirements-run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Gearshift runs on Python 3.11, 3.12 and 3.13; name one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || echo "Installing into .venv: 3.2 GB to download, 6 GB on disk; most is torch with CUDA"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet uv
	@$(INSTALL) --compile-bytecode -r requirements-run.lock
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

$(INSTALLED): requirements.lock $(USABLE)
	@$(INSTALL) --compile-bytecode -r requirements.lock
	@touch $@
