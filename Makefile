# Every target does its own set-up: a virtual environment in .venv, and where it needs them, system packages.
# The Python of .venv; by itself python3, or one that runs faster (.ci/choose-python).
PYTHON ?=
EXPERIMENTS ?=
PORT ?= 8000

# Two more than there are cores, because many tests wait for processes.
TEST_WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 2 : 4)))

# Tests start hundreds of processes; compiled modules are kept even where the environment says otherwise.
unexport PYTHONDONTWRITEBYTECODE

# The package's program takes two fifths of the CPU time of the others.
BROWSER := chromium-headless-shell,chromium,google-chrome:chromium-headless-shell

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu test-nightly test-large test-fleets check bench-chaos bench-clock bench-confirm bench-early-stop bench-cycle bench-findings bench-findings-value bench-git bench-head-start bench-load bench-machines bench-packs bench-pages bench-promotion bench-quarantine bench-scoring bench-search bench-storage bench-train bench-trust bench-windows bench-worker screenshots clean

help:  ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp  ## Run a small swarm here: real training on two CPU cores, no key needed (EXPERIMENTS=6 PORT=8000)
	@.ci/system-packages --if-allowed bwrap:bubblewrap
	@$(BIN)/swarm demo --port $(PORT) $(if $(EXPERIMENTS),--experiments $(EXPERIMENTS))

test: $(VENV)/dev.stamp  ## Run all tests: real database, git, sandbox, processes and browser
	@.ci/system-packages bwrap:bubblewrap $(BROWSER) nginx:nginx-light systemd-analyze:systemd
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal --durations=10 $(TESTS)

test-nightly: $(VENV)/dev.stamp  ## Run the property tests with thousands of new examples each
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) -m hypothesis --hypothesis-profile explore --timeout 3600 $(TESTS)

test-large: $(VENV)/dev.stamp  ## A maintainer finds and stops a liar, with a browser, among 100,000 experiments and 1,200 workers
	@.ci/system-packages $(BROWSER)
	@$(BIN)/python -m pytest -m large --durations=3 tests/coordinator/web $(TESTS)

test-fleets: $(VENV)/dev.stamp  ## Start workers by a real Slurm and a real Ray; SkyPilot reads its task (installs them, about 1 GB)
	@.ci/system-packages bwrap:bubblewrap munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client
	@test -e $(VENV)/fleets/bin/sky || { python3 -m venv $(VENV)/fleets && \
		$(VENV)/fleets/bin/python -m pip install -qq --disable-pip-version-check "ray[default]>=2.50,<3" "skypilot>=0.14,<1"; }
	@$(BIN)/python -m pytest -m fleets tests/acceptance/test_fleets.py $(TESTS)

screenshots: $(VENV)/dev.stamp  ## Pictures of every page of a demo swarm, both themes at two widths (FOLDER=.swarm/screenshots)
	@.ci/system-packages $(BROWSER)
	@$(BIN)/python -m tests.support.screenshots $(or $(FOLDER),.swarm/screenshots)

test-gpu: $(VENV)/dev.stamp  ## Each step that a run takes on a GPU, in each sandbox, then runs of the seed (GPU="noise", GPU="--device cpu --seconds 2")
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.gpu.ladder $(GPU)

check: $(VENV)/dev.stamp  ## Lint, check types, import rules and the house's own rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python .ci/house.py

bench-chaos: $(VENV)/dev.stamp  ## Kills, cuts, delays, a full disk, a lost replica and a restore while workers work, on both databases
	@$(BIN)/python -m tests.bench.bench_chaos $(BENCH)

bench-clock: $(VENV)/dev.stamp  ## Does other work on the machine change results? By wall time and by CPU time, alone and beside two busy loops
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.bench.bench_clock $(BENCH)

bench-cycle: $(VENV)/dev.stamp  ## Whole cycles over HTTP as the swarm grows, on both databases (BENCH="--sizes 100 --against ../other" compares two checkouts)
	@$(BIN)/python -m tests.bench.bench_cycle $(BENCH)

bench-git: $(VENV)/dev.stamp  ## Clones, fetches and bundles by the real git, and the server's memory meanwhile
	@$(BIN)/python -m tests.bench.bench_git $(BENCH)

bench-head-start: $(VENV)/dev.stamp  ## Is work worth anything that no budget counts, or knowledge that a file brings along? (BENCH="--share 0.25")
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.bench.bench_head_start $(BENCH)

bench-findings: $(VENV)/dev.stamp  ## Searches among 100,000 findings, and exports with the server's memory (BENCH="--findings 10000 --engines sqlite")
	@$(BIN)/python -m tests.bench.bench_findings $(BENCH)
	@$(BIN)/python -m tests.bench.bench_export $(BENCH)

bench-load: $(VENV)/dev.stamp  ## Many volunteers at a time, and 50 open tabs, on both databases (BENCH="--volunteers 10000 --minutes 10")
	@$(BIN)/python -m tests.bench.bench_load $(BENCH)

bench-machines: $(VENV)/dev.stamp  ## Are numbers of machines that gain differently put together rightly? The model before, now, and with normalised budgets (BENCH="--seeds 20")
	@$(BIN)/python -m tests.bench.bench_machines $(BENCH)

bench-scoring: $(VENV)/dev.stamp  ## What does looking ahead win at best, and how long does scoring take? (BENCH="--bounds")
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.bench.bench_scoring $(BENCH)

bench-findings-value: $(VENV)/dev.stamp  ## Would packs have shown that proposals of recorded sessions were resolved already? (BENCH="results.tsv")
	@$(BIN)/python -m tests.bench.bench_findings_value $(BENCH)

bench-packs: $(VENV)/dev.stamp  ## Do context packs tell what a good colleague would? Ten of a recorded session, judged by a list (BENCH="--against ../other")
	@$(BIN)/python -m tests.bench.bench_packs $(BENCH)

bench-pages: $(VENV)/dev.stamp  ## CPU, bytes, scripts and memory of every page at 1,000 and at 100,000 experiments, on both databases (BENCH="--engines sqlite")
	@$(BIN)/python -m tests.bench.bench_pages $(BENCH)

bench-search: $(VENV)/dev.stamp  ## Does the swarm decide better than a loop? Simulated volunteers on the real coordinator (BENCH="--workers 1 16 --seeds 3")
	@$(BIN)/python -m tests.bench.bench_search $(BENCH)

bench-storage: $(VENV)/dev.stamp  ## Bytes an experiment, and how long a file takes to read, up to 100,000 experiments
	@$(BIN)/python -m tests.bench.bench_storage $(BENCH)

bench-confirm: $(VENV)/dev.stamp  ## Is the published number of a record honest, and what do sealed windows let out? Before and now (BENCH="--quick", BENCH="--coordinator 20")
	@$(BIN)/python -m tests.bench.bench_confirm $(BENCH)

bench-promotion: $(VENV)/dev.stamp  ## Are the intervals of a rung's effect and of the transfer ratio right, and what does a liar move? (BENCH="--coordinator 20")
	@$(BIN)/python -m tests.bench.bench_promotion $(BENCH)

bench-quarantine: $(VENV)/dev.stamp  ## How long do a quarantine and its end take in a large swarm, and how long do others wait? (BENCH="--experiments 1000")
	@$(BIN)/python -m tests.bench.bench_quarantine $(BENCH)

bench-early-stop: $(VENV)/dev.stamp  ## What would stopping hopeless runs save, and how often would it be wrong? (BENCH="--runs 20")
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.bench.bench_early_stop $(BENCH)

bench-train: $(VENV)/dev.stamp  ## How fast do the seeds train, and what goes by outside their budgets? On a GPU, or else a CPU (BENCH="--device cuda:0")
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.bench.bench_train $(BENCH)

bench-trust: $(VENV)/dev.stamp  ## Can strangers make each other trusted, or silence a class? Sybils over HTTP, and noise with liars (BENCH="--quick")
	@$(BIN)/python -m tests.bench.bench_noise
	@$(BIN)/python -m tests.bench.bench_trust $(BENCH)

bench-windows: $(VENV)/dev.stamp  ## Does a fixed validation set wear out, and what noise do drawn windows add? (BENCH="--simulation", BENCH="--coordinator 20")
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.bench.bench_windows $(BENCH)

.PHONY: test-model
test-model: $(VENV)/dev.stamp  ## A worker with a small model on a real server, 20 jobs of codec and gpt-cpu; builds the server once
	@.ci/system-packages bwrap:bubblewrap cmake:cmake g++:g++
	@$(BIN)/python -m tests.bench.bench_model $(BENCH)

bench-worker: $(VENV)/dev.stamp  ## Does the device wait for ideas? A worker's wall time over the sum of its run times (BENCH="--slow-model 30")
	@.ci/system-packages bwrap:bubblewrap
	@$(BIN)/python -m tests.bench.bench_worker $(BENCH)

clean:  ## Remove the virtual environment and what the demo made
	rm -rf $(VENV) .swarm

$(VENV)/bin/python:
	@python=$(or $(PYTHON),$$(.ci/choose-python)); \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, and '$$python' is $$($$python --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }; \
		echo "Making a virtual environment in $(VENV) ..."; \
		$$python -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing coordinator and worker (the first time this takes a few minutes) ..."
	@$(PIP) --editable ".[coordinator,worker]"
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing everything that development needs (the first time this takes a few minutes) ..."
	@$(PIP) --editable ".[coordinator,worker,mcp,dev]"
	@touch $@ $(VENV)/demo.stamp
