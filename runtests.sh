#!/usr/bin/env bash
# Runs all checks: style, types, layers, docs, tests. Makes its own environment in .venv.
# Usage: ./runtests.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")"
./setup.sh test,docs
export OMP_NUM_THREADS=1 # one process a core, below
unset PYTHONDONTWRITEBYTECODE # tests start many processes
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
# Layers and types are checked beside docs and tests; what they say comes last.
said="$(mktemp)"
(
    set -e
    .venv/bin/lint-imports --no-cache
    .venv/bin/mypy
) >"$said" 2>&1 &
checks=$!
trap 'kill "$checks" 2>/dev/null || true; rm -f "$said"' EXIT
# All of the docs but the writing of pages. It imports, and so compiles, what the processes of the tests import.
.venv/bin/python -m sphinx -W --keep-going -q -b dummy docs docs/_build/check
code=0
.venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal "$@" || code=$?
wait "$checks" || code=1
cat "$said"
exit "$code"
