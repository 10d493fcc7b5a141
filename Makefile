# `make demo` and `make test` are all that most people need. Both create the environment first if it is missing.

PYTHON ?= python3
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
ACTIVATE := . $(BIN)/activate
# Git Bash sets MSYSTEM; PowerShell and cmd run the script by its path.
ifeq ($(OS)$(MSYSTEM),Windows_NT)
ACTIVATE := $(subst /,\,$(BIN)/activate)
endif
# Stamps: the environment has the package, which `make demo` needs; it has the development tools too.
INSTALLED := $(VENV)/installed
READY := $(VENV)/ready
DEMO := demo
# Two processes share the suite because CI has two cores; `make test SPREAD=` runs it in one process.
SPREAD ?= -n 2 --dist worksteal
# `make test` skips tests that start servers, kill sweeps, drive a browser or execute notebooks: tests/conftest.py.
SHORT := -m "not long"

# Environments are installed without bytecode. Python writes that of the modules that are imported, once.
unexport PYTHONDONTWRITEBYTECODE
# The interpreters of test-versions; each may be a path.
PYTHONS ?= python3.11 python3.12 python3.13 python3.14

.PHONY: help demo demo-report test test-long test-lowest test-newest test-versions test-seams-newest chaos test-ray postgres notebooks reference docs lint format bench clean

help:
	@echo "make demo          train 360 small networks on embedded digits and compare them"
	@echo "make test          check style and types, and run the tests that take minutes"
	@echo "make test-long     run the tests that start servers, kill sweeps or drive a browser"
	@echo "make test-lowest   run the tests of dependencies with their lowest allowed versions"
	@echo "make test-newest   run the tests with the newest version of each dependency"
	@echo "make test-versions run the tests on each Python version of PYTHONS that is installed"
	@echo "make chaos         kill a sweep, searches and a map 300 times each and compare the results"
	@echo "make test-ray      install Ray and run the tests of execution.backend=ray"
	@echo "make postgres      run an MLflow server with PostgreSQL on this machine, until Ctrl-C"
	@echo "make notebooks     execute the notebooks, including the published experiments, and save their outputs"
	@echo "make reference     write docs/reference.md, and the choices in the help and the README"
	@echo "make docs          build the documentation site in build/site"
	@echo "make lint          check style and types with ruff and mypy"
	@echo "make format        format the code with ruff"
	@echo "make bench         measure fnnexp, PyTorch, JAX, scikit-learn and a plain loop on MNIST, and parts of a sweep"
	@echo "make clean         remove the environments and the results of the demo"

# --no-compile saves time and 150 MB: Python compiles the modules that are imported, which are a part of all.
# Some systems have no wheels of Numba. There the demo is installed without it.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --only-binary numba,llvmlite -e ".[numba]" || $(INSTALL) -e .
	@echo made > $(INSTALLED)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[dev,docs]"
	@echo made > $(INSTALLED)
	@echo made > $(READY)

# The store of the demo is in its own folder. A second run finds all trials finished and only reports.
DEMO_STORE := sqlite:///$(DEMO)/mlflow.db
define NEXT
To go on, paste these into this shell. The page is $(DEMO)/reports/demo/report.html
  $(ACTIVATE)
  fnnexp -cn init_grid data=digits
  fnnexp report init_grid
  fnnexp ui --uri $(DEMO_STORE)
For your own images: fnnexp -cn init_grid data=files data.path=FILE_OR_FOLDER
endef
# `info` prints without a shell, in which backslashes of Windows paths would be escapes.
demo: demo-report
	@$(info $(NEXT))

demo-report: $(INSTALLED)
	$(BIN)/fnnexp -cn demo tracking.uri=$(DEMO_STORE)
	$(BIN)/fnnexp report demo --uri $(DEMO_STORE) --folder $(DEMO)/reports/demo

test: lint
	$(BIN)/python -m pytest $(SPREAD) $(SHORT)

test-long: $(READY)
	$(BIN)/python -m pytest $(SPREAD) -m long

# These tests call pandas, MLflow, matplotlib, joblib, Hydra, filelock and NumPy's generators. The others would cost
# CI time and find nothing more: chaos, servers, clusters and generated input test fnnexp's own code, and the numbers
# use no new NumPy feature. `make test-lowest LOWEST_TESTS=tests` runs all tests.
LOWEST := .venv-lowest
LOWEST_BIN := $(subst $(VENV),$(LOWEST),$(BIN))
LOWEST_TESTS ?= $(addprefix tests/,$(addsuffix .py,test_api test_cli test_imports test_versions config/test_config \
  config/test_plugin nn/test_engines nn/test_nn reporting/test_analysis reporting/test_tables sweeping/test_locks \
  sweeping/test_loky_seams tracking/test_mlflow_seams tracking/test_saved_views \
  tracking/test_tracking))

$(LOWEST)/ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST_BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints-lowest.txt -e ".[dev]"
	@echo made > $(LOWEST)/ready

test-lowest: $(LOWEST)/ready
	$(LOWEST_BIN)/python -m pytest $(SPREAD) $(SHORT) $(LOWEST_TESTS)

# The newest versions, without constraints, in a new environment for each run. CI runs only the tests of private
# parts of dependencies: `make test-seams-newest`.
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

# Try to run each interpreter: pyenv has shims for versions that are not active, and these fail.
test-versions:
	@missing=; failed=; \
	for python in $(PYTHONS); do \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) \
	    || { missing="$$missing $$python"; continue; }; \
	  echo "== Python $$version ($$python)"; \
	  { $(MAKE) --no-print-directory VENV=.venv-$$version PYTHON=$$python .venv-$$version/ready \
	    && $(subst $(VENV),.venv-$$version,$(BIN))/python -m pytest $(SPREAD) $(SHORT); } || failed="$$failed $$python"; \
	done; \
	[ -z "$$missing" ] || echo "not installed, so not tested:$$missing"; \
	[ -z "$$failed" ] || echo "failed:$$failed"; \
	[ -z "$$failed" ]

# The suite kills a sweep 20 times and a search 3 times; this target kills each of them 300 times, with a new random seed.
chaos: $(READY)
	FNNEXP_KILLS=300 FNNEXP_CHAOS_SEED=$$(date +%s) $(BIN)/python -m pytest tests/sweeping/test_chaos.py
	FNNEXP_KILLS=300 FNNEXP_CHAOS_SEED=$$(date +%s) $(BIN)/python -m pytest tests/mapping/test_map_chaos.py

# Ray is large, so only this target installs it.
test-ray: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray]"
	$(BIN)/python -m pytest tests/sweeping/test_cluster.py -k ray

postgres: $(READY)
	$(BIN)/python -m servers

# This takes minutes. The last notebook needs MNIST.
notebooks: $(READY)
	$(BIN)/python -m notebooks

reference: $(READY)
	$(BIN)/python -m docs

# A warning is an error. The pages open from the disk; build/site/docs/index.html is the first.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -j auto -c docs -d build/doctrees . build/site
	@echo "open build/site/docs/index.html"

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(READY)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# The other libraries are large, so only this target installs them.
# These tests compare numbers with PyTorch's; `make test` skips them where it is not installed.
PEERS := $(addprefix tests/nn/,test_against_torch.py test_activations.py test_losses.py test_nn.py test_regularizers.py)

bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m pytest $(SPREAD) $(PEERS)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.pieces
	$(BIN)/python -m benchmarks.diagnostics
	$(BIN)/python -m benchmarks.sweep

clean:
	rm -rf $(VENV) .venv-* $(DEMO)
