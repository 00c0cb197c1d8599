#!/usr/bin/env bash
# Sets the machine up, makes the Caffe fork and builds it: caffe, libcaffe and pycaffe.
#
#   ./scripts/build.sh [--gpu [--nccl] [--arch LIST]] [--caffe DIR] [--tests] [--plain] [--no-setup]
#
#   --gpu          with CUDA, in build-gpu/ (default: for the CPU alone, in build/)
#   --nccl         also for several GPUs, with NVIDIA's NCCL; NCCL_DIR says where it is unless it is in the usual places
#   --arch LIST    for these compute capabilities alone, without dots (default: that of the last build, at first
#                  "75 80 86 89 90")
#   --caffe DIR    from your own Caffe tree, which stays as it is, or `debian` for the one that is fetched
#                  (default: the choice of the last build, at first the fetched one)
#   --tests        also the C++ tests
#   --plain        also the fetched Caffe without anything of ours, in build/plain/: the tests run exported networks in it
#   --no-setup     installs nothing: takes what is there, or names all that is missing
#
# Then: . build/env.sh
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
. scripts/progress.sh

fail() { echo "error: $*" >&2; exit 1; }
refuse() { echo "error: $*" >&2; exit 2; }

build=build
tree=
setup=yes
options=(-DCPU_ONLY=ON)
gpu_options=()
targets=(fork)
while [ $# -gt 0 ]; do
  case $1 in
    --gpu) build=build-gpu; options+=(-DCPU_ONLY=OFF -DUSE_NCCL=OFF) ;;
    --nccl) gpu_options+=(-DUSE_NCCL=ON) ;;
    --arch)
      [[ ${2-} =~ ^[0-9]{2,3}(\ [0-9]{2,3})*$ ]] ||
        refuse "--arch needs compute capabilities without dots, such as \"80 90\""
      gpu_options+=("-DCUDA_ARCH_BIN=$2")
      shift ;;
    --tests) options+=("-DFORK_TARGETS=all;test.testbin") ;;
    --plain) targets+=(plain) ;;
    --no-setup) setup= ;;
    --caffe)
      [ $# -ge 2 ] || refuse "--caffe needs a folder"
      if [ "$2" = debian ]; then tree=; else tree=$(realpath -e "$2" 2>/dev/null) || refuse "--caffe $2: no such folder"; fi
      options+=("-DCAFFE_SOURCE_DIR=$tree")
      shift ;;
    *) refuse "unknown option $1: see $0 --help" ;;
  esac
  shift
done
[ $build = build-gpu ] || [ ${#gpu_options[@]} = 0 ] || refuse "--nccl and --arch go with --gpu"
options+=("${gpu_options[@]}")

if [ -n "${ACTIVE_CONVOLUTION_BUILT:-}" ]; then exit 0; fi  # inside an image of docker/: finished, and no compiler

if [ -z "$setup" ] && [ ! -x /usr/bin/python3 ]; then  # with which fork/requirements.py looks for all the rest
  packages() { sed -nE "s/^need\(\S+ +\S+ +(\S+) +(\S+)\)$/\\$1/p" cmake/requirements/CMakeLists.txt | sort -u | xargs; }
  fail "missing: /usr/bin/python3, and perhaps all the rest; on Debian: apt-get install python3 cmake" \
    "make g++ $(packages 1); on Fedora: dnf install python3 cmake make gcc-c++ $(packages 2)"
fi

if [ ! -d $build/out ]; then
  echo "Building Caffe with active convolutions in $PWD/$build. This is done once; on two cores it takes"
  [ -z "$setup" ] || echo "  1 to 3 minutes to install what is missing of Debian's packages,"
  echo "  some seconds to fetch Caffe's source, and 3 to 6 minutes to compile it."
fi
[ -z "$setup" ] || ./scripts/setup.sh
[ -z "$tree" ] || /usr/bin/python3 fork/assemble.py --caffe "$tree" --project .  # before the build folder remembers it
if [ "$build" = build-gpu ]; then
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] ||
    fail "--gpu needs CUDA's nvcc on the PATH or in /usr/local/cuda: install the CUDA toolkit"
fi

mkdir -p "$build"
[ -n "$setup" ] || /usr/bin/python3 fork/requirements.py --build "$build/requirements"

log=$build/build.log
: > "$log"
configure() { cmake -S . -B "$build" "${options[@]}"; }
compile() { cmake --build "$build" --parallel "$(nproc)" --target "$1"; }
ended_badly() {
  { grep -n -m 20 '[Ee]rror' "$log" && echo ...; tail -n 20 "$log"; } || true
  fail "$1: the reason stands above, and everything in $build/build.log"
}

with_progress "Configuring" "$log" configure || ended_badly "the build could not be configured"
for target in "${targets[@]}"; do
  case $target in fork) what="Compiling the fork" ;; plain) what="Compiling the plain Caffe" ;; esac
  with_progress "$what" "$log" compile "$target" || ended_badly "the build failed"
done
echo "Built the fork in $build/; next: . $build/env.sh"
