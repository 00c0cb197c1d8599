#!/usr/bin/env bash
# Cross-validates a small network on real handwritten digits, with ordinary convolutions and with active ones.
# Sets up and builds first; prints both test errors and the path of a picture of the learned positions.
#
#   ./scripts/demo.sh
#
# Data and runs go to data/digits16 and runs/demo in the working directory.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
root=$(cd "$(dirname "$0")/.." && pwd)
[ $# = 0 ] || { echo "error: usage: $0 (no arguments)" >&2; exit 2; }

data=data/digits16
runs=runs/demo
folds=6

echo "The demo sets up and builds what is missing (the first time: see below), trains a network of two 3×3 convolutions 2 × $folds"
echo "times on handwritten digits, which takes two idle cores about a minute, and draws where the synapses went."
"$root/scripts/build.sh"
rm -rf $runs
mkdir -p $runs $data
# Two side by side, each with half of the cores: layers for images this small are too short to be shared by many threads.
cores=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(( cores > 1 ? cores / 2 : 1 ))}
work=()  # what runs beside the script
trap 'kill "${work[@]}" 2>/dev/null || true' EXIT

told() { cat "$1" >&2; exit 1; }  # what the program said that failed

train() {  # train FOLD VARIANT, beside the script
  "$root/scripts/acu" train "$root/models/digits/shallow" --variant "$2" --data "$data/$1" --output "$runs/$1/$2" \
    > "$runs/$1/$2.txt" 2>&1 &
  work+=($!)
}

# The last row of metrics.csv is the finished network's; its fifth column is the test error.
error() { tail -1 "$runs/$1/$2/metrics.csv" | tr -d '\r' | awk -F, '{ printf "%.2f", 100 * $5 }'; }

for ((fold = 1; fold <= folds; ++fold)); do
  mkdir $runs/$fold
  [ -e $data/$fold ] || "$root/scripts/acu" data digits --size 16x16 --fold $fold --output $data/$fold \
    > $runs/$fold/data.txt 2>&1 || told $runs/$fold/data.txt
  work=()
  train $fold baseline
  train $fold acu
  wait "${work[0]}" || told $runs/$fold/baseline.txt
  wait "${work[1]}" || told $runs/$fold/acu.txt
  echo "test error of part $fold of $folds: ordinary $(error $fold baseline) %, active $(error $fold acu) %" | tee -a $runs/errors.txt
done
work=()
"$root/scripts/acu" plot $runs/1/acu --output $runs/positions.png

summary() {  # of errors.txt: mean ± standard error over the parts
  awk '
    function add(name, value) { sum[name] += value; squares[name] += value * value }
    function told(name) { mean = sum[name] / NR; spread = squares[name] / NR - mean * mean
                          return sprintf("%5.2f ± %.2f %%", mean, sqrt((spread > 0 ? spread : 0) / (NR - 1))) }
    { add("ordinary", $9); add("active", $12); add("less", $9 - $12) }
    END { print "  ordinary convolutions  " told("ordinary"); print "  active convolutions    " told("active")
          print "  the difference         " told("less") }' $runs/errors.txt
}
echo
echo "Test error of a network of two 3×3 convolutions on handwritten digits: mean ± standard error of $folds parts"
summary
echo "Learned positions: $PWD/$runs/positions.png"
echo "Demo finished."
