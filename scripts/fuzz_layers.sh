#!/usr/bin/env bash
# Runs libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer on the parameters and blob shapes of both layers, and on
# their passes (python/tests/campaign/fuzz_active_layers.cpp). What it finds is written to build/fuzz/. Needs the build, and
# Clang (Debian: clang-14), whose runtime the sanitizers are.
#
#   ./scripts/fuzz_layers.sh [--minutes N] [--seed S]      30 minutes and seed 1, unless given
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 1; }

minutes=30 seed=1
while [ $# -gt 0 ]; do
  [[ ${2-} =~ ^[0-9]+$ ]] || fail "usage: $0 [--minutes N] [--seed S]"
  case $1 in --minutes) minutes=$2 ;; --seed) seed=$2 ;; *) fail "unknown option $1" ;; esac
  shift 2
done
compiler=$(command -v clang++-14 || command -v clang++) || fail "there is no clang++: apt-get install clang-14"
flags_of_build=build/out/src/caffe/test/CMakeFiles/test.testbin.dir/flags.make
[ -f "$flags_of_build" ] || fail "build/ holds no finished build: run ./scripts/build.sh --tests"

mkdir -p build/fuzz/corpus
read -ra flags <<< "$(sed -n 's/^CXX_\(DEFINES\|INCLUDES\) = //p' "$flags_of_build" | tr '\n' ' ')"
flags+=(-w -g1 -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined)
sources=(python/tests/campaign/fuzz_active_layers.cpp src/caffe/util/active_cpu_*.cpp)
printf '%s\0' "${sources[@]}" | xargs -0 -P "$(nproc)" -I{} sh -c \
  "exec $(printf '%q ' "$compiler" "${flags[@]}") -c -o build/fuzz/\$(basename {}).o {}" || fail "the reason stands above"
"$compiler" "${flags[@]}" -o build/fuzz/layers build/fuzz/*.cpp.o -Lbuild/out/lib -Wl,-rpath,"$PWD/build/out/lib" -lcaffe \
  -lcaffeproto -lboost_system -lboost_thread -lglog -lprotobuf
export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 GLOG_minloglevel=3 OMP_NUM_THREADS=1
build/fuzz/layers -seed="$seed" -max_total_time=$((60 * minutes)) -max_len=512 -timeout=60 -rss_limit_mb=4096 \
  -print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/corpus
