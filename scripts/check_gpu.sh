#!/usr/bin/env bash
# Every check that needs a GPU, for a machine that has one: the C++ tests, 1,000 random cases against the oracle, the Python
# tests of the layer with their nets on the GPU, and the C++ tests of our GPU code under compute-sanitizer: memcheck and
# initcheck. (Its racecheck looks at shared memory, which our kernels do not use.)
#
#   ./scripts/check_gpu.sh [ID]        ID: the device's number, as nvidia-smi counts (default: 0)
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 1; }
[ $# -le 1 ] && [[ ${1-0} =~ ^[0-9]+$ ]] || fail "usage: $0 [ID]"
device=${1-0}

ask() { nvidia-smi -i "$device" --query-gpu="$1" --format=csv,noheader 2>/dev/null; }
ask name,driver_version || fail "GPU $device does not answer nvidia-smi"
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
[ -x "$sanitizer" ] || fail "compute-sanitizer is missing: install it from the CUDA toolkit"
./scripts/build.sh --gpu --tests --arch "$(ask compute_cap | tr -d .)"

export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=$device  # the C++ tests use the first that they see
tests() {  # tests FILTER [COMMAND...]: runs them with the command
  (cd build-gpu/fork && "${@:2}" ../out/test/test.testbin --gtest_color=no --gtest_filter="$1") |
    grep -v '^$\|^\[ *\(RUN\|OK\|-*\) *\]'
}

echo "C++ tests"
tests '*'
export ACTIVE_CONVOLUTION_BUILD=$PWD/build-gpu ACTIVE_CONVOLUTION_GPU=0
./scripts/acu check --cases 1000
/usr/bin/python3 -m pytest -q python/tests/test_{layer_oracle,layer_solver,layer_update,published}.py
for tool in memcheck initcheck; do
  echo "C++ tests of our GPU code under compute-sanitizer: $tool"
  # The layers' tests 2 and 3 are those on the GPU. Caffe looks at what CUDA's functions return, and expects some to fail.
  tests 'ActiveGpuPassTest/*:ActiveConvolutionLayerTest/2*:ActiveConvolutionLayerTest/3*:AConvFastLayerTest/2*:AConvFastLayerTest/3*' \
    "$sanitizer" --tool $tool --report-api-errors no --error-exitcode 1
done
echo "All checks on the GPU passed."
