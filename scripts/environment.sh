# Makes .venv beside this folder and installs the bundle's package (editable) and a list of requirements; sourced by the
# other scripts. Usage: . scripts/environment.sh REQUIREMENTS_FILE
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
stamp="$root/.venv/installed-$(basename "$1")"

# The stamp holds the folder of the checkout, which an editable install refers to by its absolute path.
up_to_date() {
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$root" ] || return 1
  local list
  for list in "$1" requirements.txt constraints.txt pyproject.toml; do
    [ ! "$root/$list" -nt "$stamp" ] || return 1
  done
}

if [ ! -x "$python" ]; then
  echo "Making $root/.venv"
  "${PYTHON:-python3}" -m venv "$root/.venv"
fi
if ! up_to_date "$1"; then
  echo "Installing $1 (a few minutes the first time)"
  "$python" -m pip install --quiet --quiet --disable-pip-version-check -e "$root" -r "$root/$1" -c "$root/constraints.txt"
  echo "$root" > "$stamp"
fi
