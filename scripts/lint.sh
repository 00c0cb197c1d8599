#!/usr/bin/env bash
# Checks the format and the style of all Python with ruff, from PyPI, in the version that pyproject.toml pins.
#
#   ./scripts/lint.sh [--fix]
#
#   --fix  rewrites the files instead
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
config=python/pyproject.toml
paths=(python fork benchmarks scripts)
version=$(sed -n 's/^required-version = "\(.*\)"$/\1/p' "$config")
ruff=build/ruff/bin/ruff
[[ -x $ruff && $version = "==$("$ruff" --version | cut -d' ' -f2)" ]] || {
  python3 -m venv build/ruff
  build/ruff/bin/pip install -q --disable-pip-version-check "ruff$version"
}
case ${1-} in
  --fix)
    "$ruff" check -q --config "$config" --fix "${paths[@]}" || true
    "$ruff" format --config "$config" "${paths[@]}" ;;
  "")
    "$ruff" format --config "$config" --check "${paths[@]}"
    "$ruff" check --config "$config" "${paths[@]}" ;;
  *) echo "error: usage: $0 [--fix]" >&2; exit 2 ;;
esac
