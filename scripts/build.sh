#!/usr/bin/env bash
# Sets the machine up, makes the Caffe fork and builds it: caffe, libcaffe, pycaffe and the C++ tests.
#
#   ./scripts/build.sh [--gpu [--nccl] [--arch LIST]] [--caffe DIR] [--plain]
#
#   --gpu        with CUDA, in build-gpu/ (default: for the CPU alone, in build/)
#   --nccl       also for several GPUs, with NVIDIA's NCCL; NCCL_DIR says where it is unless it is in the usual places
#   --arch LIST  for these compute capabilities alone, without dots (default: that of the last build, at first "75 80 86 89 90")
#   --caffe DIR  from your own Caffe tree, which stays as it is, or `debian` for Debian's source package
#                (default: the choice of the last build, at first Debian's)
#   --plain      also Debian's Caffe without anything of ours, in build/plain/: the tests run exported networks in it
#
# Then: . build/env.sh
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 1; }

build=build
tree=
options=(-DCPU_ONLY=ON)
gpu_options=()
targets=(all)
while [ $# -gt 0 ]; do
  case $1 in
    --gpu) build=build-gpu; options=(-DCPU_ONLY=OFF -DUSE_NCCL=OFF) ;;
    --nccl) gpu_options+=(-DUSE_NCCL=ON) ;;
    --arch)
      [[ ${2-} =~ ^[0-9]{2,3}(\ [0-9]{2,3})*$ ]] || fail "--arch needs compute capabilities without dots, such as \"80 90\""
      gpu_options+=("-DCUDA_ARCH_BIN=$2")
      shift ;;
    --plain) targets+=(plain) ;;
    --caffe)
      [ $# -ge 2 ] || fail "--caffe needs a folder"
      if [ "$2" = debian ]; then tree=; else tree=$(realpath -e "$2" 2>/dev/null) || fail "--caffe $2: no such folder"; fi
      options+=("-DCAFFE_SOURCE_DIR=$tree")
      shift ;;
    *) fail "unknown option $1: see $0 --help" ;;
  esac
  shift
done
[ $build = build-gpu ] || [ ${#gpu_options[@]} = 0 ] || fail "--nccl and --arch go with --gpu"
options+=("${gpu_options[@]}")

if [ -n "${ACTIVE_CONVOLUTION_BUILT:-}" ]; then exit 0; fi  # inside an image of docker/: finished, and no compiler

./scripts/setup.sh
[ -z "$tree" ] || /usr/bin/python3 fork/assemble.py --caffe "$tree" --project .  # before the build folder remembers it
if [ "$build" = build-gpu ]; then
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] ||
    fail "--gpu needs CUDA's nvcc on the PATH or in /usr/local/cuda: install the CUDA toolkit"
fi

mkdir -p "$build"
cmake -S . -B "$build" "${options[@]}" > "$build/configure.log" ||
  { cat "$build/configure.log"; fail "the build could not be configured: the reason stands above"; }
cmake --build "$build" --parallel "$(nproc)" --target "${targets[@]}" || fail "the build failed: the reason stands above"
echo "Built the fork in $build/; next: . $build/env.sh"
