# Makes .venv beside this folder's parent and installs what is asked for; sourced by the other scripts.
# Usage: . scripts/environment.sh REQUIREMENTS_FILE
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
stamp="$root/.venv/installed-$(basename "$1")"
if [ ! -x "$python" ]; then
  echo "Making $root/.venv"
  "${PYTHON:-python3}" -m venv "$root/.venv"
fi
if [ ! -f "$stamp" ] || [ "$root/$1" -nt "$stamp" ] || [ "$root/constraints.txt" -nt "$stamp" ] || [ "$root/requirements.txt" -nt "$stamp" ]; then
  echo "Installing $1 (a few minutes the first time)"
  "$python" -m pip install --quiet --quiet --disable-pip-version-check -r "$root/$1" -c "$root/constraints.txt"
  touch "$stamp"
fi
