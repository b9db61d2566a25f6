#!/usr/bin/env bash
# Starts a MONAI Label server for the bundle, on a fresh machine: set-up, a copy of the studies, the server.
# Usage: bash scripts/monailabel.sh STUDIES [--target DIR] [--model_dir DIR] [--port N] [--host H] [--in-place]
# bash scripts/monailabel.sh --help lists all options.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[ -x "$python" ] || python="${PYTHON:-python3}"
"$python" "$root/scripts/monailabel_server.py" --check "$@"  # rejects wrong input before the long set-up
case " $* " in *" --help "* | *" -h "*) exit 0 ;; esac
. "$root/scripts/environment.sh" requirements.txt
exec "$python" "$root/scripts/monailabel_server.py" "$@"
