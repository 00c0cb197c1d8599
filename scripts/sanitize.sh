#!/usr/bin/env bash
# Builds the fork with AddressSanitizer and UndefinedBehaviorSanitizer, in build-sanitize/, and runs our C++ tests and random
# cases of the oracle in it. Any finding is an error. Needs the ordinary build, too, and makes it where it is missing.
#
#   ./scripts/sanitize.sh
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
[ $# = 0 ] || { echo "error: usage: $0 (no arguments)" >&2; exit 1; }

./scripts/build.sh
mkdir -p build-sanitize
tree=$(cat build/fork/.assembled)  # the Caffe that the ordinary build was made of
cmake -S . -B build-sanitize -DCPU_ONLY=ON -DCAFFE_SOURCE_DIR="$tree" -DFORK_TARGETS="test.testbin;run_layer" \
  -DCAFFE_TESTS= -DCMAKE_BUILD_TYPE=None \
  -DCMAKE_CXX_FLAGS="-O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
  > build-sanitize/configure.log || { cat build-sanitize/configure.log; echo "error: the reason stands above" >&2; exit 1; }
cmake --build build-sanitize --parallel "$(nproc)"

# Caffe and its libraries keep some memory until the process ends: what is looked for is access, not leaks.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
(cd build-sanitize/fork && ../out/test/test.testbin --gtest_color=no --gtest_filter='Active*:AConv*') |
  grep -v '^$\|^\[ *\(RUN\|OK\|-*\) *\]'
./scripts/acu check --cases 300 --build build-sanitize
echo "No finding of the sanitizers."
