#!/usr/bin/env bash
# Sets up, builds, and trains the paper's plain network twice on real handwritten digits: with ordinary convolutions and
# with active ones. Prints both test errors and the path of a picture of the learned positions.
#
#   ./scripts/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 0 ] || { echo "error: usage: $0 (no arguments)" >&2; exit 1; }

data=data/digits
runs=runs/demo

./scripts/build.sh
[ -e $data ] || ./scripts/create_lmdb.py digits --output $data
rm -rf $runs
for variant in baseline acu; do
  echo "Training the plain network: $variant"
  ./scripts/train.py models/digits/plain --variant $variant --data $data --output $runs/$variant
done
./scripts/plot_positions.py $runs/acu --output $runs/positions.png

# The last row of metrics.csv is the finished network's; its fifth column is the test error.
error() { tail -1 "$runs/$1/metrics.csv" | tr -d '\r' | awk -F, '{ printf "%5.2f %%", 100 * $5 }'; }
echo
echo "Test error on the handwritten digits"
echo "  ordinary convolutions  $(error baseline)"
echo "  active convolutions    $(error acu)"
echo "Learned positions: $PWD/$runs/positions.png"
echo "Demo finished."
