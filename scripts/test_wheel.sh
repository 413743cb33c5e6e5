#!/usr/bin/env bash
# Build the wheel and test it from outside the tree, with no more than its base dependencies, under PYTHON and under
# Python 3.10 where one is found. Leaves PYTHON's wheel in dist/.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"
shared="${LEAKRT_SHARED:-$root/../shared}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# What these tests need is the base install; packaging/ and the training stages' tests look at the tree or at torch.
parts=(core runtime cli)

oldest_python() {
  local candidate
  for candidate in "$HOME"/.pyenv/versions/3.10.*/bin/python "$(command -v python3.10 || true)"; do
    if [[ -x "$candidate" ]] && "$candidate" -c 'import sys, venv; assert sys.version_info[:2] == (3, 10)' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

# test_under PYTHON: build, install and test in folders of its own.
test_under() {
  local version here
  version="$("$1" -c 'import platform; print(platform.python_version())')"
  here="$work/$version"
  echo "== wheel under Python $version"
  "$1" -m venv "$here/venv"
  local pip=("$here/venv/bin/python" -m pip --disable-pip-version-check)
  "${pip[@]}" wheel -q --no-deps -w "$here/dist" "$root"
  "${pip[@]}" install -q -c "$root/constraints.txt" "$here"/dist/*.whl hypothesis pytest pytest-xdist
  # The host twin of the CUDA kernels, which the wheel does not hold and the tests need.
  "${pip[@]}" wheel -q --no-deps --config-settings=cmake.define.LEAKRT_TESTS=ON -w "$here/with_tests" "$root"
  "$here/venv/bin/python" - "$here"/with_tests/*.whl <<'TWIN'
import sys, sysconfig, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sysconfig.get_path("purelib"), [name for name in wheel.namelist() if "/_grid." in name])
TWIN
  mkdir "$here/outside"
  cp -r "$root/tests" "$root/pyproject.toml" "$here/outside/"
  cd "$here/outside"
  "$here/venv/bin/python" - "$here/venv" <<'CHECK'
import importlib.util, sys
import leakrt
assert leakrt.__file__.startswith(sys.argv[1]), f"not the installed wheel: {leakrt.__file__}"
assert importlib.util.find_spec("torch") is None, "the base install pulls torch"
CHECK
  local here_parts=() part
  for part in "${parts[@]}"; do
    if compgen -G "tests/$part/**" >/dev/null; then here_parts+=("tests/$part"); fi
  done
  local test=("$here/venv/bin/python" -m pytest -q -p no:cacheprovider)
  LEAKRT_SHARED="$shared" "${test[@]}" -n auto --dist loadfile -m "not slow" "${here_parts[@]}"
  # PyCUDA is built with a toolkit: its own tests run where a wheel of it for this Python lies beside the tree.
  local tag wheels
  tag="$("$1" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')"
  wheels=("$shared"/gpu/wheels/pycuda-*-"$tag"-*.whl)
  if [[ -f "${wheels[0]}" ]]; then
    "${pip[@]}" install -q "${wheels[0]}"
    "${test[@]}" tests/runtime/backends/tensorrt/test_cuda_device.py
  fi
  cd "$root"
}

test_under "$python"
rm -rf "$root/dist"
cp -r "$work"/*/dist "$root/dist"

oldest="$(oldest_python)"
if [[ -z "$oldest" ]]; then
  echo "== no wheel test under Python 3.10: none in ~/.pyenv/versions and no python3.10 on PATH"
elif "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))'; then
  echo "== no second wheel test: $python is Python 3.10 itself"
else
  test_under "$oldest"
fi
