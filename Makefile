# Two commands do all the set-up: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH := .venv-bench
ROUNDS ?= 5

.PHONY: demo test faults slurm gpu browser docs docs-links lint format bench bench-memory signatures clean

demo: $(READY)  ## train the digits example end to end; prints the test result and where the report is
	$(BIN)/netwright train examples/digits.toml

test faults: export PYTHONDONTWRITEBYTECODE :=  # tests start hundreds of commands, and each would compile the package anew

test: $(READY)  ## all tests, in three processes (a third of the time each waits); a file's tests stay together, files in order
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

faults: $(READY)  ## the long suites: kills, losses of power, full disks, hostile files, several processes (docs/reliability.md)
	$(BIN)/python -m pytest --faults tests/faults tests/pipeline/test_pipeline_resuming.py tests/distributed

slurm: $(READY)  ## nightly, as root: two hosts (network namespaces), a SLURM on them (SLURM_PREFIX=... where it is unpacked)
	$(BIN)/python -m pytest --network --slurm --slurm-prefix '$(SLURM_PREFIX)' tests/slurm

gpu: $(READY)  ## on a machine with a GPU: runs on it, precisions, populations, ranks; skipped elsewhere
	$(BIN)/python -m pytest tests/gpu

browser: $(READY)  ## reports in a real browser (Chromium on the PATH, or CHROMIUM=...): layout, keys, contrast, barriers
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	$(BIN)/python -m pytest --browser --chromium '$(CHROMIUM)' tests/browser

docs: $(READY)  ## the documentation as a site in build/site, to be read without a network; a warning is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --conf-dir docs --builder html . build/site
	@echo build/site/index.html

docs-links: $(READY)  ## whether links to other hosts still lead somewhere; needs a network (the others: make test)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx --quiet --conf-dir docs --builder linkcheck . build/links

lint: $(READY)  ## style, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH)/.ready  ## beside its peers: speed, start, memory (benchmarks/results.md); make bench ROUNDS=1 for a first look
	$(BENCH)/bin/python benchmarks/run.py all --rounds $(ROUNDS)

bench-memory: $(READY)  ## memory and speed on tables of growing size (benchmarks/results.md)
	$(BIN)/python benchmarks/larger_than_memory.py --folder $(shell mktemp -d)/large

signatures: $(READY)  ## the table of torch's layers, losses and optimizers, after a change of torch
	$(BIN)/python tools/signatures.py

$(BENCH)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BENCH)/bin/python -m pip install --quiet --no-deps fastai
	touch $(BENCH)/.ready

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("netwright needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:  ## remove what make made
	rm -rf $(VENV) $(BENCH) .mypy_cache .pytest_cache .ruff_cache
