#!/usr/bin/env bash
# Runs the whole test suite, on a fresh machine: set-up, ruff, mypy, pytest.
# Usage: bash scripts/test.sh [pytest arguments]; -m "not slow" skips the slow tests
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements-dev.txt
cd "$root"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
export OMP_NUM_THREADS=1  # two test processes share two cores
exec "$python" -m pytest -n 2 --dist loadscope "$@"  # a module stays in one process, so that its fixtures run once
