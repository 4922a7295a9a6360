#!/usr/bin/env bash
# Runs all checks: style, types, layers, docs, tests. Makes its own environment in .venv.
# Usage: ./runtests.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")"
./setup.sh test,docs
export GOMP_SPINCOUNT=0 # idle threads must not spin where cores are shared
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
.venv/bin/mypy
.venv/bin/lint-imports --no-cache
.venv/bin/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
.venv/bin/python -m pytest "$@"
