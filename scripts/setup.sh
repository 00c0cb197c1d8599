#!/usr/bin/env bash
# Installs what the project needs from Debian's packages; does nothing where all of it is there.
set -euo pipefail

packages=(
  # to build Caffe
  build-essential cmake dpkg-dev gpgv debian-archive-keyring
  libboost-filesystem-dev libboost-python-dev libboost-system-dev libboost-thread-dev
  libgflags-dev libgoogle-glog-dev libhdf5-dev libleveldb-dev liblmdb-dev libopenblas-openmp-dev libopencv-dev
  libprotobuf-dev libsnappy-dev protobuf-compiler
  # pycaffe and our package
  python3 python3-dev python3-lmdb python3-matplotlib python3-numpy python3-opencv python3-protobuf python3-pytest
  python3-scipy python3-skimage python3-sklearn python3-tqdm
  # to execute the notebook, and to test the report's page in a browser
  chromium-headless-shell python3-ipykernel python3-nbclient python3-nbformat python3-websocket
  # to train with several processes
  openmpi-bin python3-mpi4py
)

fail() { echo "error: $*" >&2; exit 1; }

missing() {
  comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) \
    <(dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null | awk '$1 == "ii" { print $2 }' | sort -u)
}

[ $# = 0 ] || fail "usage: $0 (no arguments)"
command -v dpkg-query >/dev/null || fail "this set-up is for Debian 12: dpkg-query is missing"
wanted=$(missing)
[ -n "$wanted" ] || exit 0

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
