# Two commands on a fresh machine: `make demo` and `make test`. Each sets up .venv when it is missing. `make` shows all.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN  := $(VENV)/bin
AMC  := $(BIN)/amc

DEVICE  ?= host
MODEL   ?= mobilenet_v2
LATENCY ?= 0.5
ABI     ?= arm64-v8a
# The table that `make profile` wrote for this device and network, if there is just one.
TABLE   ?= $(if $(word 2,$(TABLES)),,$(TABLES))
TABLES  := $(filter-out .%,$(wildcard latency_tables/$(subst :,_,$(DEVICE))/$(MODEL)--*.json))

# Threads that spin while they wait make tests crawl on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE
export OPENBLAS_NUM_THREADS ?= 1

# ---------------------------------------------------------------------------------------------------------- front door

.PHONY: help
help: ## Show this list
	@echo "make TARGET [VARIABLE=value ...]"
	@awk -F ':.*## ' '/^[a-z_0-9-]+:.*## / {printf "  %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "variables: DEVICE=$(DEVICE) MODEL=$(MODEL) WEIGHTS= DATA= TABLE= LATENCY=$(LATENCY) RUN=$(or $(RUN),runs/demo) ARGS='more options of the command'"

.PHONY: setup
setup: $(VENV)/.ready ## Make .venv with everything that is needed (again only when pyproject.toml or constraints.txt changed)

.PHONY: demo
demo: setup ## The whole job on this machine in minutes: train, profile, search, prune, fine-tune, benchmark, report
	$(AMC) demo $(ARGS)

.PHONY: test
test: setup ## Run the tests (offline, CPU)
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-slow
test-slow: setup ## The tests that take minutes: large networks, the report in a real browser
	$(BIN)/python -m pytest -m slow $(ARGS)

.PHONY: test-phone
test-phone: setup ## The phone path against real adb clients, the real adbd and the emulated arm64 runner (fetches them)
	$(BIN)/python -m tests.phone.counterparts $(ARGS)

# ------------------------------------------------------------------------------------------------------------ the verbs

.PHONY: devices
devices: setup ## List this machine's devices and all phones, with what to do about those that cannot be used
	$(AMC) devices $(ARGS)

.PHONY: selfcheck
selfcheck: setup ## Show whether all of the phone path works on a phone: DEVICE=pixel
	$(AMC) selfcheck --device $(DEVICE) $(ARGS)

.PHONY: profile
profile: setup ## Measure a latency table: DEVICE=host MODEL=mobilenet_v2 [WEIGHTS=file.pt]
	$(AMC) profile --model $(MODEL) $(if $(WEIGHTS),--weights $(WEIGHTS)) --device $(DEVICE) $(ARGS)

.PHONY: search
search: setup ## Search under a latency budget, on the table that `make profile` wrote: DEVICE= MODEL= WEIGHTS= DATA= LATENCY=0.5 [RUN=runs/name]
	$(AMC) search --model $(MODEL) $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(DATA),--data $(DATA)) \
	    $(if $(TABLE),--table $(TABLE)) --latency $(LATENCY) --device $(DEVICE) \
	    --out $(or $(RUN),runs/$(MODEL)-$(subst :,_,$(DEVICE))-$(LATENCY)) $(ARGS)

.PHONY: sweep
sweep: setup ## Many runs and one page with their Pareto front: [CONFIG=sweep.toml] [DATA=folder] ARGS='--dry-run'
	$(AMC) sweep $(or $(CONFIG),configs/digits_sweep.toml) $(if $(DATA),--data $(DATA)) $(ARGS)

.PHONY: bench
bench: setup ## Original, pruned and int8 network on the device, and the report: RUN=runs/demo DEVICE=host|pixel|all
	$(AMC) bench $(or $(RUN),runs/demo) --device $(DEVICE) $(ARGS)

.PHONY: report
report: setup ## Write the report of a run again: RUN=runs/name
	$(AMC) report $(or $(RUN),runs/demo) $(ARGS)

.PHONY: runner
runner: setup ## Build what is sent to a phone: ABI=arm64-v8a|x86_64 [AAR=file.aar] [COMPILER=zig|ndk|gcc]
	$(BIN)/python -m android_bench.bundle --abi $(ABI) $(if $(AAR),--aar $(AAR)) $(if $(COMPILER),--compiler $(COMPILER)) $(ARGS)

# --------------------------------------------------------------------------------------------------- published numbers

.PHONY: bench-mobilenet_v2
bench-mobilenet_v2: setup need-data ## MobileNet-V2, ImageNet, 70 % latency on this machine (under 25 minutes): DATA=folder
	$(AMC) run configs/mobilenet_v2_imagenet.toml --data $(DATA) $(ARGS)

.PHONY: bench-resnet56
bench-resnet56: setup need-data ## ResNet-56, CIFAR-10, 50 % MACs (minutes): DATA=folder
	$(AMC) run configs/resnet56_cifar10.toml --data $(DATA) $(ARGS)

.PHONY: bench-fashion_mnist_vgg
bench-fashion_mnist_vgg: setup need-data ## VGG-small, Fashion-MNIST, trained here, 50 % latency, int8: DATA=folder
	$(AMC) run configs/fashion_mnist_vgg.toml --data $(DATA) $(ARGS)

.PHONY: need-data
need-data:
	@test -n "$(DATA)" || { echo "say where weights and images are: make $(MAKECMDGOALS) DATA=folder" >&2; exit 2; }

# ------------------------------------------------------------------------------------------------------------- quality

.PHONY: check
check: quality test ## Format, lint, types, import rules, tests

.PHONY: quality
quality: setup ## As check, without the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: setup ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove caches and build products (keeps .venv and runs)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# --------------------------------------------------------------------------------------------------------------- setup

# The first Python that is new enough and really starts (version managers put names on PATH that do not).
FIND_PYTHON = for p in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || { \
	    python=$$($(FIND_PYTHON)) || true; \
	    test -n "$$python" || { echo "amc-mobile needs Python 3.11 or newer; install it, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; }; \
	    "$$python" -c 'import venv, ensurepip' 2>/dev/null || { echo "$$python has no venv module; on Debian and Ubuntu type: sudo apt-get install python3-venv" >&2; exit 1; }; \
	    echo "making $(VENV) with $$($$python --version)"; \
	    "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
