# Two commands matter: `make serve` and `make test`. Both create the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := .make/ready
HOST ?= 127.0.0.1
PORT ?= 8000
# More than the two cores they are meant for: many a test waits for a server.
WORKERS ?= 3
# The files as they come: left to itself xdist begins with those of many tests, and ends with the longest.
PARALLEL := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# What takes long while branches are counted and reaches hardly any that others do not; `make test` runs all of it.
COSTLY := (replayed_from_its_record and not 1-ttl) or (batching_memory and not mixed-40-2-True) or no_slice_does_more \
	or (SimExecutor and not window-1) or longest_among_all or costs_what_was_born or slice_of_the_sweep or swap-groups0 \
	or recompute-groups or superblocks_are_used or every_superblock_emptied or in_another_process
# Tests start some hundred processes, each of which would else compile the sources anew: a third of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test test-long check lint coverage format clean

serve: $(READY)  ## Serve the bundled model at http://127.0.0.1:8000
	$(BIN)/infergc serve models/demo --host $(HOST) --port $(PORT)

test: $(READY)  ## Run the tests, a file after the other in each of so many processes
	$(BIN)/python -m pytest tests $(PARALLEL)

test-long: $(READY)  ## The same, each test at its full size: an hour
	$(BIN)/python -m pytest tests --long $(PARALLEL)

check: $(READY)  ## Run the static checks, and branch coverage of heap, sched and policies beside them
	$(MAKE) --jobs $(WORKERS) --output-sync=target lint coverage

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/deptry .
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/arch

coverage: $(READY)  # by few tests that reach nearly all; it fails below the bar in pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q $(PARALLEL) tests/golden tests/pure/test_heap_*.py \
		tests/pure/test_engine.py tests/pure/test_engine_fuzz.py tests/pure/test_engine_tiers.py tests/pure/test_step_faults.py \
		tests/pure/test_cache_control.py tests/pure/test_tier_figures.py tests/pure/test_retention_policies.py \
		tests/pure/test_ordering.py tests/pure/test_sessions.py tests/pure/test_beams.py tests/pure/test_public_prefix.py \
		tests/pure/test_prompt_logprobs.py -k "not ($(COSTLY))"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: $(READY)  ## Lay the code out and mend what can be mended by rule
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt setup.py $(wildcard src/infergc/kernels/cpu/*.cpp src/infergc/kernels/cpu/*.hpp)
	@echo "Installing PyTorch and the tools into $(VENV): a few minutes, once"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@mkdir -p $(@D) && touch $@

clean:  ## Remove the environment and what was built
	rm -rf $(VENV) .make build src/*.egg-info src/infergc/kernels/cpu/*.so
