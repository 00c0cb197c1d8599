#!/usr/bin/env bash
# Trains the paper's plain network twice on real handwritten digits: with ordinary convolutions, and with active ones.
# Sets up and builds first; prints both test errors and the path of a picture of the learned positions.
#
#   ./scripts/demo.sh
#
# Data and runs go to data/digits and runs/demo in the working directory.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# = 0 ] || { echo "error: usage: $0 (no arguments)" >&2; exit 1; }

data=data/digits
runs=runs/demo

echo "The demo sets up and builds what is missing (the first time: see below), then trains two networks, which takes two"
echo "idle cores about 2 minutes, and draws where the synapses went. Run again, it goes straight to the training."
"$root/scripts/build.sh"
[ -e $data ] || "$root/scripts/acu" data digits --output $data
rm -rf $runs
mkdir -p $runs
# Side by side, each with half of the cores: layers for images this small are too short to be shared by many threads.
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(( cores > 1 ? cores / 2 : 1 ))}
train=("$root/scripts/acu" train "$root/models/digits/plain" --data $data)
echo "Training the plain network twice, side by side: acu, and with ordinary convolutions (messages: $runs/baseline.txt)"
"${train[@]}" --variant baseline --output $runs/baseline > $runs/baseline.txt 2>&1 &
baseline=$!
trap 'kill $baseline 2>/dev/null || true' EXIT
"${train[@]}" --variant acu --output $runs/acu
wait $baseline || { cat $runs/baseline.txt >&2; exit 1; }
trap - EXIT
"$root/scripts/acu" plot $runs/acu --output $runs/positions.png

# The last row of metrics.csv is the finished network's; its fifth column is the test error.
error() { tail -1 "$runs/$1/metrics.csv" | tr -d '\r' | awk -F, '{ printf "%5.2f %%", 100 * $5 }'; }
echo
echo "Test error on 297 handwritten digits, too few to tell the two networks apart"
echo "  ordinary convolutions  $(error baseline)"
echo "  active convolutions    $(error acu)"
echo "Learned positions: $PWD/$runs/positions.png"
echo "Demo finished."
