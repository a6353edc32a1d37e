#!/bin/bash
# The environment of a dev container: every package but torch by its hash, torch for CPUs, kdnb itself.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m venv .venv
.venv/bin/python -m pip install --require-hashes --requirement requirements.lock
.venv/bin/python -m pip install --no-deps torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
.venv/bin/python -m pip install --no-deps --no-build-isolation --editable .
touch .venv/.ready
make doctor
