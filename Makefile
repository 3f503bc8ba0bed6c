# Everything runs from the checkout: the virtual environment is .venv, and nothing is installed into the system's Python.
# As another user than root, what needs root is run by sudo where there is one.

HOSTS ?= 2
NAME ?= lab
ONLY ?=
DURATION ?= 1h
PYTEST_OPTIONS ?=
FUZZ_SECONDS ?= 60
VENV := .venv
PYTHON := $(VENV)/bin/python
KEEP := MAGLICA_LAB_DIR,MAGLICA_LAB_CACHE,MAGLICA_LAB_NAME,MAGLICA_TEST_LONG
ROOT := $(shell [ "$$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && echo "sudo --preserve-env=$(KEEP)"; })

.NOTPARALLEL:
.PHONY: help deps venv demo lab lab-down test test-fast faults fuzz lint bench soak derive clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## two hypervisors, two clones, their own words, and everything gone again
	@lab/install-packages || [ $$? -eq 3 ]
	@$(MAKE) --no-print-directory venv
	@$(ROOT) lab/demo

lab: deps venv ## make a lab and leave it running: make lab HOSTS=3
	@$(ROOT) lab/up --name=$(NAME) --hosts=$(HOSTS)

lab-down: ## remove every trace of the lab
	@$(ROOT) lab/down --name=$(NAME)

deps: ## install the distribution's packages that are missing
	@lab/install-packages

venv: $(VENV)/made ## make the virtual environment .venv
	@:

# The distribution's own Python: python3-libvirt and python3-guestfs belong to it, and are visible in .venv
$(VENV)/made: setup.cfg pyproject.toml
	@echo "making $(VENV)" >&2
	@[ -x $(PYTHON) ] || /usr/bin/python3 -m venv --system-site-packages $(VENV)
	@$(PYTHON) -m pip --quiet --disable-pip-version-check --no-input install --editable '.[dev]' --config-settings=editable_mode=compat
	@touch $@

test: deps venv ## all tests; the lab's need root
	@$(ROOT) $(PYTHON) -m pytest -p no:cacheprovider $(PYTEST_OPTIONS)

test-fast: venv ## the tests without the lab and without what waits by its nature
	@$(PYTHON) -m pytest -p no:cacheprovider -m 'not lab and not slow' $(PYTEST_OPTIONS)

# What `make test` runs a few times, or only a part of
FAULTS := tests/faults tests/fuzz tests/client_worker/test_interleavings.py tests/host_worker/test_warm.py \
	tests/lab/test_warm_faults.py tests/lab/test_thin.py

faults: deps venv ## every fault, many times: two hours on two cores; the lab's need root
	@MAGLICA_TEST_LONG=1 $(ROOT) $(PYTHON) -m pytest -p no:cacheprovider $(FAULTS) $(PYTEST_OPTIONS)

fuzz: venv ## coverage-guided fuzzing of the decoder and of the doors: make fuzz FUZZ_SECONDS=600
	@$(PYTHON) -m tests.fuzz $(FUZZ_SECONDS)

lint: venv ## ruff and mypy --strict
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy --strict maglica
	@$(PYTHON) -m mypy --strict lab/parts
	@$(PYTHON) -m mypy --strict bench

bench: venv ## measure against what the bare libraries can do: make bench ONLY="jobs restart"
	@$(PYTHON) -m bench $(ONLY)

soak: venv ## load for a long time, and fail if a daemon grows: make soak DURATION=1h
	@$(PYTHON) -m bench.soak --duration=$(DURATION)

derive: venv ## write what follows from the table of actions
	@$(PYTHON) -m maglica.derive

clean: ## remove what this Makefile made in the checkout
	@rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
