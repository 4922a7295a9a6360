#!/usr/bin/env bash
# The main job on a phantom dataset: protect, verify, train victims, report. Makes its own environment in .venv.
# Usage: ./demo.sh [OUTPUT_FOLDER]
set -euo pipefail
cd "$(dirname "$0")"
./setup.sh
export GOMP_SPINCOUNT=0 # idle threads must not spin where cores are shared
exec .venv/bin/python -m monai_unlearnable demo "${1:-demo_output}"
