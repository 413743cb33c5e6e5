# make quickstart: from nothing to verdicts. make test: everything a change has to pass.
PYTHON ?= python3
PYTEST_ARGS ?= -n auto --dist loadfile
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
NATIVE := CMakeLists.txt $(wildcard runtime/native/* tests/support/native/*)
PACKAGE := pyproject.toml constraints.txt $(NATIVE)
# TensorRT-RTX builds real engines on a CPU, so its tests run wherever its wheels exist: x86-64 Linux and Windows.
EXTRAS := train,tensorboard,openvino,dev$(shell $(PYTHON) -c 'import platform as p, sys; \
  print(",rtx" if p.machine() in ("x86_64", "AMD64") and sys.platform != "darwin" else "")')
CPP := $(filter %.cpp %.hpp %.cu %.cuh,$(NATIVE))

.PHONY: quickstart test lint format wheel test-wheel clean

quickstart: .venv/train.stamp
	$(BIN)/leakrt quickstart

test: lint test-wheel
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/link_package.py .typing
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

test-wheel: .venv/dev.stamp
	PYTHON="$(PYTHON)" scripts/test_wheel.sh

wheel: .venv/bin/python
	$(PIP) wheel --no-deps -w dist .

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

# Installed once, and again when what is installed changes. Python sources are used where they lie.
.venv/train.stamp: .venv/bin/python $(PACKAGE)
	$(PIP) install -c constraints.txt -e '.[train]'
	@touch $@

.venv/dev.stamp: .venv/bin/python $(PACKAGE)
	@case "$(EXTRAS)" in *rtx*) ;; *) echo "no TensorRT-RTX wheels for this machine: tests that build engines skip" ;; esac
	$(PIP) install -c constraints.txt --config-settings=cmake.define.LEAKRT_TESTS=ON -e '.[$(EXTRAS)]'
	@touch .venv/train.stamp $@

clean:
	rm -rf .venv .typing build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
