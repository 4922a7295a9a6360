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
.venv/bin/lint-imports --no-cache
.venv/bin/mypy &
types=$!
.venv/bin/python -m sphinx -W --keep-going -q -b dummy docs docs/_build/check # all of the docs but the writing of pages
wait "$types"
.venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal "$@"
