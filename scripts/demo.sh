#!/usr/bin/env bash
# Runs the whole workflow on generated data, on a fresh machine: set-up, MR and CT, adaptation, inference, table, report.
# Usage: bash scripts/demo.sh [--output_dir demo] [--seed 0]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh" requirements.txt
exec "$python" "$root/scripts/demo.py" "$@"
