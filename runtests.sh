#!/usr/bin/env bash
# Runs all checks: style, types, layers, docs, tests. Makes its own environment in .venv.
# Usage: ./runtests.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")"
./setup.sh test,docs
export OMP_NUM_THREADS=1 # one process a core, below
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
.venv/bin/mypy
.venv/bin/lint-imports --no-cache
.venv/bin/python -m sphinx -j auto -W --keep-going -q -b html docs docs/_build/html
.venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal "$@"
