# Two commands do all: `make demo` and `make test`. Each makes the environment first when it is not there.

PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/ready
DEMO := demo
# Two processes share the suite, because CI has two cores; `make test SPREAD=` runs it in one.
SPREAD ?= -n 2 --dist worksteal
# `make test` leaves out what starts servers, kills sweeps, drives a browser or executes notebooks: tests/conftest.py.
SHORT := -m "not long"
# What test-versions tries; an interpreter may be a path.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14

.PHONY: help demo test test-long test-lowest test-newest test-versions test-seams-newest chaos test-ray postgres notebooks lint format bench clean

help:
	@echo "make demo          a small grid on the embedded digits, and the comparison"
	@echo "make test          style, types, and the tests that take minutes"
	@echo "make test-long     the tests that start servers, kill sweeps or drive a browser"
	@echo "make test-lowest   the tests that lean on dependencies, with the lowest versions allowed"
	@echo "make test-newest   the tests with the newest version of every dependency"
	@echo "make test-versions the whole test suite on each of PYTHONS that is found"
	@echo "make chaos         kill a sweep 300 times and compare what comes out"
	@echo "make test-ray      the tests of execution.backend=ray, which install Ray"
	@echo "make postgres      an MLflow server over PostgreSQL on this machine, until Ctrl-C"
	@echo "make notebooks     execute the notebooks again, the published experiments too, and save their outputs"
	@echo "make lint          ruff and mypy"
	@echo "make format        ruff's formatting"
	@echo "make bench         ours beside PyTorch, JAX, scikit-learn and a plain loop, on MNIST; the sweep by part"
	@echo "make clean         remove the environment and what the demo made"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@echo made > $(READY)

# The demo keeps its store in a folder of its own; started again, it finds its trials done and reports.
DEMO_STORE := sqlite:///$(DEMO)/mlflow.db
demo: $(READY)
	$(BIN)/fnnexp -cn demo tracking.uri=$(DEMO_STORE)
	$(BIN)/fnnexp report demo --uri $(DEMO_STORE) --folder $(DEMO)/reports/demo

test: lint
	$(BIN)/python -m pytest $(SPREAD) $(SHORT)

test-long: $(READY)
	$(BIN)/python -m pytest $(SPREAD) -m long

# A second pass that CI can afford: what calls pandas, MLflow, matplotlib, joblib, Hydra, filelock and NumPy's
# generators. Left out is what would only be slower: chaos, servers, clusters and generated input try our code
# again and again, and the numbers against their reference need nothing of NumPy that is new.
# `make test-lowest LOWEST_TESTS=tests` runs all.
LOWEST := .venv-lowest
LOWEST_BIN := $(subst $(VENV),$(LOWEST),$(BIN))
LOWEST_TESTS ?= $(addprefix tests/,$(addsuffix .py,test_api test_cli test_imports test_versions config/test_config \
  config/test_plugin nn/test_engines nn/test_nn reporting/test_analysis reporting/test_tables sweeping/test_locks \
  sweeping/test_loky_seams tracking/test_mlflow_seams tracking/test_tracking))

$(LOWEST)/ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST_BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints-lowest.txt -e ".[dev]"
	@echo made > $(LOWEST)/ready

test-lowest: $(LOWEST)/ready
	$(LOWEST_BIN)/python -m pytest $(SPREAD) $(SHORT) $(LOWEST_TESTS)

# The newest versions there are, pinned by nothing: made anew for each run of the tests. CI runs the tests of the
# private parts of dependencies that we use: `make test-seams-newest`.
NEWEST := .venv-newest
NEWEST_BIN := $(subst $(VENV),$(NEWEST),$(BIN))
NEWEST_TESTS ?= tests
SEAMS := tests/config/test_plugin.py tests/sweeping/test_loky_seams.py tests/tracking/test_mlflow_seams.py tests/test_api.py

$(NEWEST)/ready: pyproject.toml
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST_BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -e ".[dev]"
	@echo made > $(NEWEST)/ready

test-newest: $(NEWEST)/ready
	@rm $(NEWEST)/ready
	$(NEWEST_BIN)/python -m pytest $(SPREAD) $(SHORT) $(NEWEST_TESTS)

test-seams-newest:
	$(MAKE) test-newest NEWEST_TESTS="$(SEAMS)"

# An interpreter counts as found when it runs: pyenv's shims are there also for versions that are not switched on.
test-versions:
	@missing=; failed=; \
	for python in $(PYTHONS); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) \
	    || { missing="$$missing $$python"; continue; }; \
	  echo "== Python $$version ($$python)"; \
	  { $(MAKE) --no-print-directory VENV=.venv-$$version PYTHON=$$python .venv-$$version/ready \
	    && $(subst $(VENV),.venv-$$version,$(BIN))/python -m pytest $(SPREAD) $(SHORT); } || failed="$$failed $$python"; \
	done; \
	[ -z "$$missing" ] || echo "not found, so not tested:$$missing"; \
	[ -z "$$failed" ] || echo "failed:$$failed"; \
	[ -z "$$failed" ]

# The suite kills a sweep 30 times; this one ten times as often, another way each time.
chaos: $(READY)
	FNNEXP_KILLS=300 FNNEXP_CHAOS_SEED=$$(date +%s) $(BIN)/python -m pytest tests/sweeping/test_chaos.py

# Ray is large, so only this target installs it.
test-ray: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	$(BIN)/python -m pytest tests/sweeping/test_cluster.py -k ray

postgres: $(READY)
	$(BIN)/python -m servers

# With MNIST, which the last one needs: minutes.
notebooks: $(READY)
	$(BIN)/python -m notebooks

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(READY)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# The peers are large, so only this target installs them.
bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.diagnostics
	$(BIN)/python -m benchmarks.sweep

clean:
	rm -rf $(VENV) .venv-* $(DEMO)
