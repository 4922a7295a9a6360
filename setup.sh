#!/usr/bin/env bash
# Makes .venv with the package and what EXTRAS name, torch first; a second run finds it ready.
# Usage: ./setup.sh [EXTRAS]     for example: ./setup.sh test,docs
set -euo pipefail
cd "$(dirname "$0")"
extras="${1:-}"
python="${PYTHON:-python3}"
"$python" - <<'PY' || exit 2
import sys
if sys.version_info < (3, 10):
    sys.exit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}; set PYTHON to another interpreter")
PY
stamp=".venv/.ready-$("$python" -c 'import hashlib,sys; print(hashlib.sha256(b"".join(open(f,"rb").read() for f in ("setup.cfg","constraints.txt"))+sys.argv[1].encode()).hexdigest()[:16])' "$extras")"
if [ ! -e "$stamp" ]; then
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    export PIP_DISABLE_PIP_VERSION_CHECK=1
    .venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt torch setuptools wheel
    .venv/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation --editable ".${extras:+[$extras]}"
    touch "$stamp"
fi
