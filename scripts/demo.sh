#!/usr/bin/env bash
# Sets up, builds, and runs acu demo: a small network on real handwritten digits, cross-validated with ordinary
# convolutions and with active ones. Prints both test errors and the path of a picture of the learned positions.
#
#   ./scripts/demo.sh
#
# Data, runs and the picture go to runs/demo in the working directory.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
[ $# = 0 ] || { echo "error: usage: $0 (no arguments)" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/scripts/build.sh"
exec "$root/scripts/acu" demo
