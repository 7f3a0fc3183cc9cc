#!/usr/bin/env bash
# Tests the package. Says why where that cannot be, and ends well.
#
# usage: python/test.sh         an optimised wheel by maturin, installed without an index into a
#                               fresh environment; with numpy, pandas, scikit-learn and mypy
#        python/test.sh quick   the same tests but those of ulmfit.sklearn, on the library of the
#                               debug build beside the package's files: needs python3 alone
set -euo pipefail
cd "$(dirname "$0")"
not_tested() { echo "python: not tested: $1"; exit 0; }
case ${1:-} in
  "" | quick) ;;
  *) echo "usage: python/test.sh [quick]" >&2; exit 2 ;;
esac

command -v python3 > /dev/null || not_tested "there is no python3"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
  not_tested "$(python3 --version) is older than 3.9"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=$(cargo metadata --format-version 1 --no-deps --locked --offline |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

if [ "${1:-}" = quick ]; then
  # the packages of `cargo test --workspace`: what is built is not built again
  (cd .. && cargo build --workspace --lib --tests --locked --quiet)
  cp -R ulmfit "$work/ulmfit"
  cp "$target/debug/lib_ulmfit.so" "$work/ulmfit/_ulmfit.abi3.so"
  printf '#!/bin/sh\nexec python3 -m ulmfit "$@"\n' > "$work/command"
  chmod +x "$work/command"
  export PYTHONPATH=$work ULMFIT_COMMAND=$work/command ULMFIT_BINARY=$target/debug/ulmfit
  [ -x "$ULMFIT_BINARY" ] || unset ULMFIT_BINARY
  cd tests
  TMPDIR=$work python3 -m unittest --verbose test_package
  exit
fi

pip() { "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"; }
python3 -m venv "$work/build" > /dev/null 2>&1 || not_tested "python3 has no venv (Debian: python3-venv)"
pip "$work/build" "maturin>=1.9,<2" > "$work/log" 2>&1 ||
  not_tested "maturin cannot be had: $(tail -n 1 "$work/log")"
PATH="$work/build/bin:$PATH" maturin build --release --locked --quiet --out "$work/wheels"
(cd .. && cargo build --release --locked --quiet)
python3 -m venv "$work/use"
pip "$work/use" numpy pandas scikit-learn mypy > "$work/log" 2>&1 ||
  echo "python: without scikit-learn and mypy: $(tail -n 1 "$work/log")"
pip "$work/use" --no-index "$work"/wheels/*.whl
ls -l "$work"/wheels | awk 'NR > 1 { print "python: " $NF ", " $5 " bytes" }'
cd tests
export ULMFIT_BINARY=$target/release/ulmfit
TMPDIR=$work "$work/use/bin/python" -m unittest discover --verbose
if [ -x "$work/use/bin/mypy" ]; then
  "$work/use/bin/mypy" --config-file ../pyproject.toml --cache-dir "$work/mypy" --package ulmfit
fi
