#!/usr/bin/env bash
# Every check that needs a GPU, for a machine that has one: our C++ tests under compute-sanitizer (memcheck, racecheck,
# initcheck), 1,000 random cases against the oracle, and the Python tests of the layer with their nets on the GPU.
#
#   ./scripts/check_gpu.sh [ID]        ID: the device's number (default: 0)
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 1; }
[ $# -le 1 ] && [[ ${1-0} =~ ^[0-9]+$ ]] || fail "usage: $0 [ID]"
device=${1-0}

nvidia-smi -i "$device" --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || fail "GPU $device does not answer nvidia-smi"
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
[ -x "$sanitizer" ] || fail "compute-sanitizer is missing: install it from the CUDA toolkit"
./scripts/build.sh --gpu

export CUDA_VISIBLE_DEVICES=$device  # the C++ tests use the first
for tool in memcheck racecheck initcheck; do
  echo "C++ tests under compute-sanitizer: $tool"
  (cd build-gpu/fork && "$sanitizer" --tool $tool --error-exitcode 1 \
     ../out/test/test.testbin --gtest_color=no --gtest_filter='Active*:AConv*-*ErrorTest*') |
    grep -v '^$\|^\[ *\(RUN\|OK\|-*\) *\]'
done
export ACTIVE_CONVOLUTION_BUILD=$PWD/build-gpu ACTIVE_CONVOLUTION_GPU=0
./scripts/check_layer.py --cases 1000
/usr/bin/python3 -m pytest -q python/tests/test_layer_oracle.py python/tests/test_layer_solver.py python/tests/test_published.py
echo "All checks on the GPU passed."
