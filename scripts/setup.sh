#!/usr/bin/env bash
# Installs what the project needs from Debian's packages; does nothing where all of it is there.
#
#   ./scripts/setup.sh [--run [PACKAGE ...] | --test]
#
#   --run   only what a finished build runs with, and each PACKAGE
#   --test  the same, and what its tests need (default: what building needs, too)
#
# The tests run exported networks in onnxruntime, which Debian does not have: it comes from PyPI, into a virtual environment
# that only the tests look into, build/test-env or $ACTIVE_CONVOLUTION_TEST_ENV. Without PyPI those tests are skipped.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }

# To build Caffe.
build=(
  build-essential cmake dpkg-dev gpgv debian-archive-keyring
  libboost-filesystem-dev libboost-python-dev libboost-system-dev libboost-thread-dev
  libgflags-dev libgoogle-glog-dev libhdf5-dev libleveldb-dev liblmdb-dev libopenblas-openmp-dev libopencv-dev
  libprotobuf-dev libsnappy-dev protobuf-compiler python3-dev
)
# To run pycaffe and our package; to train with several processes.
run=(
  libopenblas0-openmp
  python3 python3-lmdb python3-matplotlib python3-numpy python3-opencv python3-protobuf python3-scipy python3-skimage
  python3-onnx python3-sklearn python3-tqdm
  openmpi-bin python3-mpi4py
)
# To execute the notebook; to test, the report's page in a browser and exported networks in PyTorch, too.
test=(
  jupyter-nbconvert python3-ipykernel python3-nbformat
  python3-pytest chromium-headless-shell python3-torch python3-venv python3-websocket
)

fail() { echo "error: $*" >&2; exit 1; }

missing() {
  comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) \
    <(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null | awk '$1 == "ii" { print $2 }' | sort -u)
}

case ${1-} in
  "") packages=("${build[@]}" "${run[@]}" "${test[@]}") ;;
  --run) packages=("${run[@]}" "${@:2}") ;;
  --test) packages=("${run[@]}" "${test[@]}") ;;
  *) fail "usage: $0 [--run [PACKAGE ...] | --test]" ;;
esac
environment=${ACTIVE_CONVOLUTION_TEST_ENV:-$(cd "$(dirname "$0")/.." && pwd)/build/test-env}
test_environment() {
  [[ ${1-} != --run ]] && ! compgen -G "$environment/lib/python3*/site-packages/onnxruntime" >/dev/null || return 0
  echo "Installing from PyPI into $environment: onnxruntime"
  /usr/bin/python3 -m venv --system-site-packages "$environment" &&
    "$environment/bin/pip" install -q --no-deps --disable-pip-version-check onnxruntime ||
    echo "onnxruntime could not be installed: the tests that need it will be skipped" >&2
}

command -v dpkg-query >/dev/null || fail "this set-up is for Debian 12: dpkg-query is missing"
wanted=$(missing)
[ -n "$wanted" ] || { test_environment "${1-}"; exit; }

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || fail "these packages are missing; as root: apt-get install" $wanted
  as_root=(sudo)
fi
echo "Installing from Debian:" $wanted
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $wanted
wanted=$(missing)
[ -z "$wanted" ] || fail "apt-get did not install" $wanted
test_environment "${1-}"
