#!/usr/bin/env bash
# Sets the machine up, makes the Caffe fork and builds it: caffe, libcaffe, pycaffe and the C++ tests.
#
#   ./scripts/build.sh [--gpu] [--caffe DIR] [--plain]
#
#   --gpu        with CUDA, in build-gpu/ (default: for the CPU alone, in build/)
#   --caffe DIR  from your own Caffe tree, which stays as it is, or `debian` for Debian's source package
#                (default: the choice of the last build, at first Debian's)
#   --plain      also Debian's Caffe without anything of ours, in build/plain/: the tests run exported networks in it
#
# Then: . build/env.sh
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 1; }

build=build
tree=
options=(-DCPU_ONLY=ON)
targets=(all)
while [ $# -gt 0 ]; do
  case $1 in
    --gpu) build=build-gpu; options=(-DCPU_ONLY=OFF) ;;
    --plain) targets+=(plain) ;;
    --caffe)
      [ $# -ge 2 ] || fail "--caffe needs a folder"
      if [ "$2" = debian ]; then tree=; else tree=$(realpath -e "$2" 2>/dev/null) || fail "--caffe $2: no such folder"; fi
      options+=("-DCAFFE_SOURCE_DIR=$tree")
      shift ;;
    -h|--help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) fail "unknown option $1: see $0 --help" ;;
  esac
  shift
done

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
