#!/usr/bin/env bash
# Sets up, builds, and runs every test: C++ (ours, and Caffe's own of what the fork touches), then Python.
#
#   ./scripts/test.sh [--quick]
#
#   --quick   within three minutes on two idle cores, after the build: only our C++ tests, without those that compare gradients
#             with differences, and of the Python tests those that are not marked slow, some of each part
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
case $* in
  "") chosen='*' marked=() ;;
  --quick) chosen='Active*:AConv*:Fast*:-*Gradient*' marked=(-m "quick or not slow") ;;
  *) echo "error: usage: $0 [--quick]" >&2; exit 2 ;;
esac

echo "This sets up and builds what is missing (the first time: see below), then runs the C++ tests and the Python tests;"
echo "its last line counts them."
./scripts/build.sh --tests --plain
./scripts/setup.sh --test
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}  # a waiting thread takes no core from a working one

status=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "C++ tests"
# Caffe's tests find their data from the root of its tree.
(cd build/fork && ../out/test/test.testbin --gtest_color=no --gtest_filter="$chosen") 2>&1 | tee "$log" |
  { grep --line-buffered '^\[[-=]*\] [0-9].*ran\|^\[-*\].*total\|^\[  [A-Z]*  \]\|^F[0-9]' || true; } || status=1
[ $status = 0 ] || { echo "the C++ tests failed; their whole output:"; cat "$log"; }
cpp_passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) tests\?\..*/\1/p' "$log" | tail -1)
cpp_failed=$(grep -c '^\[  FAILED  \].*\(ms\)' "$log" || true)

echo "Python tests"
# As many at a time as there are cores: most wait for programs with one thread. A worker that dies is named.
/usr/bin/python3 -m pytest -q -rfEs --durations=10 -n auto --dist loadfile --max-worker-restart 0 "${marked[@]}" python/tests | tee "$log" || status=1
count() { grep -o "[0-9]* $1" "$log" | tail -1 | cut -d' ' -f1 || true; }
py_passed=$(count passed) py_failed=$(count failed) py_errors=$(count error) py_skipped=$(count skipped)

failed=$((cpp_failed + ${py_failed:-0} + ${py_errors:-0}))
[ $status = 0 ] || [ $failed -gt 0 ] || failed=1  # a test program that died counts none itself
echo "$((${cpp_passed:-0} + ${py_passed:-0})) passed, $failed failed, ${py_skipped:-0} skipped"
[ $status = 0 ] || { echo "error: tests failed" >&2; exit 1; }
