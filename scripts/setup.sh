#!/usr/bin/env bash
# Installs what building and running need from Debian's packages; does nothing where all of it is there.
#
#   ./scripts/setup.sh [--build | --run [PACKAGE ...] | --test | --compilers]
#
#   --build  only what compiling needs; then ./scripts/build.sh --no-setup
#   --run    only what a finished build runs with, and each PACKAGE
#   --test   what a finished build's tests need, too
#   --compilers  compilers beside the system's own, for ./scripts/check_compilers.sh
#
# The tests run exported networks in onnxruntime, and write files for TensorBoard, which Debian does not have: they come from
# PyPI, into a virtual environment that only the tests look into, build/test-env or $ACTIVE_CONVOLUTION_TEST_ENV. Without PyPI
# those tests are skipped.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
. "$(dirname "$0")/progress.sh"

# To build Caffe; git and its certificates to fetch it where Debian's mirrors have it no longer; Boost's regex for SSD's.
# "A|B" is the first that is there or that apt has; "A?" is left out where apt has none.
build=(
  build-essential cmake dpkg-dev gpgv debian-archive-keyring git ca-certificates
  libboost-filesystem-dev libboost-regex-dev libboost-system-dev libboost-thread-dev
  libgflags-dev libgoogle-glog-dev libhdf5-dev libleveldb-dev liblmdb-dev "libopenblas-openmp-dev|libopenblas-dev"
  libopencv-dev libprotobuf-dev libsnappy-dev protobuf-compiler python3
)
# To run pycaffe and our package.
run=(
  "libopenblas0-openmp|libopenblas0"
  python3 python3-h5py python3-lmdb python3-matplotlib python3-numpy python3-opencv python3-plotly python3-protobuf
  python3-scipy python3-six python3-skimage python3-sklearn python3-tqdm
)
# To train with several processes, to export to ONNX, to execute the notebook; to test installing with pip, the report's page
# in a browser, and exported networks in PyTorch. (Ubuntu has no browser but a snap's.)
test=(
  openmpi-bin python3-mpi4py python3-onnx
  jupyter-nbconvert python3-ipykernel python3-nbformat
  python3-pip python3-pytest python3-pytest-timeout python3-pytest-xdist python3-setuptools python3-venv python3-wheel
  "chromium-headless-shell?" "python3-torch?"
)
# To see that an older GCC and a Clang take our sources.
compilers=(
  "g++-11|g++-13" "clang-14|clang-19"
)

fail() { echo "error: $*" >&2; exit 1; }

case ${1-} in
  "") packages=("${build[@]}" "${run[@]}") ;;
  --build) packages=("${build[@]}") ;;
  --run) packages=("${run[@]}" "${@:2}") ;;
  --test) packages=("${run[@]}" "${test[@]}") ;;
  --compilers) packages=("${compilers[@]}") ;;
  *) echo "error: usage: $0 [--build | --run [PACKAGE ...] | --test | --compilers]" >&2; exit 2 ;;
esac
[[ ${1-} = --run || $# -le 1 ]] || { echo "error: $1 takes no argument: see $0 --help" >&2; exit 2; }
command -v dpkg-query > /dev/null && command -v apt-get > /dev/null ||
  fail "this set-up is for Debian and its kin: apt-get is missing; ./scripts/build.sh --no-setup takes what is there"

installed() {  # prints those of the packages that are installed
  dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "$@" 2> /dev/null | awk '$1 == "ii" { print $2 }'
}

available() { [ -n "$(apt-cache policy "$1" 2> /dev/null | awk '$1 == "Candidate:" && $2 != "(none)"')" ]; }

# The packages to install: of each choice what apt has, unless one of it is there already; where apt has none yet, the
# first. "A?" alone is no reason to ask the mirrors.
missing() {
  local entry name names
  local -A there=()
  names=("${packages[@]//\?/}")
  while read -r name; do there[$name]=yes; done < <(installed "${names[@]//|*/}" "${names[@]//*|/}")
  for entry in "${packages[@]}"; do
    IFS='|' read -ra names <<< "${entry%\?}"
    for name in "${names[@]}"; do [ -z "${there[$name]-}" ] || continue 2; done
    for name in "${names[@]}"; do ! available "$name" || { echo "$name"; continue 2; }; done
    [[ $entry == *\? ]] || echo "${names[0]}"
  done | sort -u
}

environment=${ACTIVE_CONVOLUTION_TEST_ENV:-$(cd "$(dirname "$0")/.." && pwd)/build/test-env}
# Without what they depend on: of that, Debian's is in use. TensorBoard 2.21 wants a newer protobuf than Debian's.
extras=(onnxruntime absl-py "tensorboard<2.21")
finish() {
  [[ ${1-} = --test ]] && ! compgen -G "$environment/lib/python3*/site-packages/tensorboard" > /dev/null || exit 0
  echo "Installing from PyPI into $environment: ${extras[*]}"
  { /usr/bin/python3 -m venv --system-site-packages "$environment" &&
    "$environment/bin/pip" install -q --no-deps --retries 1 --timeout 20 --disable-pip-version-check "${extras[@]}"
  } > /dev/null 2>&1 || echo "These could not be installed, and the tests that need them will be skipped: is PyPI in reach?"
  exit 0
}

wanted=$(missing)
[ -n "$wanted" ] || finish "${1-}"
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo > /dev/null || fail "these packages are missing; as root: apt-get install" $wanted
  as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {  # apt-get, which waits for another one to end
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Status-Fd=1 -o DPkg::Lock::Timeout=300 \
    --no-install-recommends "$@"
}
ended_badly() { tail -n 40 "$log"; fail "$*: the end of apt's output stands above"; }

with_progress "Reading the lists of packages" "$log" apt update || ended_badly "apt-get update failed"
wanted=$(missing)
[ -n "$wanted" ] || finish "${1-}"
size=$(apt-get -q -y --no-install-recommends --print-uris install $wanted 2> /dev/null |
       awk "/^'/ { sum += \$3; count++ } END { printf \"%d packages, %d MB to fetch\", count, sum / 1e6 }")
echo "Installing from Debian ($size):" $wanted | fold -s -w 120
with_progress "Installing packages" "$log" apt install $wanted || ended_badly "apt-get install failed"
wanted=$(missing)
[ -z "$wanted" ] || fail "apt-get did not install" $wanted
finish "${1-}"
