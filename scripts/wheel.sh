#!/usr/bin/env bash
# Makes the wheel: Caffe with active convolutions for every Python from 3.9 on, in dist/. On Debian 12 or 13, as root.
#
#   ./scripts/wheel.sh [--work FOLDER]
#
#   --work FOLDER  what is fetched and compiled stays there, and is not made again (default: build/wheel)
#
# What Caffe needs is compiled in a Debian 11, fetched into a folder: so the wheel runs where glibc is 2.31 or newer. Caffe itself
# is compiled by this system's compiler with Debian 11's headers, since its own makes our kernels slower by a third. OpenBLAS is
# PyPI's scipy-openblas32, which auditwheel puts into the wheel. Checked are Debian's signatures, of PyPI's files the checksums in
# scripts/wheel/requirements.txt, and of glog's source the hash of the commit, from GLOG_GIT (default: its home on GitHub).
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 1; }
work=build/wheel
if [ "${1-}" = --work ] && [ $# = 2 ]; then work=$2; elif [ $# != 0 ]; then echo "error: see $0 --help" >&2; exit 2; fi
[ "$(id -u)" = 0 ] || fail "this needs root, for a Debian 11 in a folder: sudo $0"
mkdir -p "$work" dist
work=$(realpath "$work")
root=$work/debian
project=$PWD
export TOOLS="run_layer compute_image_mean upgrade_net_proto_text upgrade_net_proto_binary"  # those that acu starts
readonly openblas="scipy-openblas32==0.3.34.481.3 --hash=sha256:0595f94cd58c1f8a0d90c975621f4587337a003916b1979e834ebdf2cb5d9504"
readonly glog=7b134a5c82c0c0b5698bb6bf7a835b230c5638e4  # v0.7.1

step() { echo "$(date +%H:%M:%S) $*"; }
inside() { chroot "$root" env -i PATH=/w/tools/cmake/data/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }

# ---- What is fetched

step "Installing what this needs on this system"
{ apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install \
    debootstrap g++ git patchelf protobuf-compiler python3-venv debian-archive-keyring; } > "$work/apt.log" 2>&1 ||
  { tail "$work/apt.log" >&2; fail "apt-get failed"; }
if [ ! -e "$work/env/ready" ]; then
  python3 -m venv "$work/env"
  pip=("$work/env/bin/pip" -q --disable-pip-version-check install)
  "${pip[@]}" auditwheel==6.8.2 cmake==4.4.5 setuptools twine wheel
  "${pip[@]}" --no-deps --require-hashes -r <(echo "$openblas")
  touch "$work/env/ready"
fi
mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | awk '$1 == "Debian" && !/security/ && !found++ { print $2 }')
[ -n "$mirror" ] || fail "the machine's apt sources name no mirror of Debian"

if [ ! -d "$root" ]; then
  step "Fetching a Debian 11"
  rm -rf "$root.part"
  debootstrap --variant=minbase --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --include="build-essential,ca-certificates,dpkg-dev,ninja-build,python3-minimal,libboost-dev,libboost-filesystem-dev,\
libboost-system-dev,libboost-thread-dev,libgflags-dev,libhdf5-dev,libjpeg-dev,libleveldb-dev,liblmdb-dev,libpng-dev,\
libsnappy-dev,zlib1g-dev" bullseye "$root.part" "$mirror" > "$work/debootstrap.log" ||
    { tail "$work/debootstrap.log" >&2; fail "there is no Debian 11 at $mirror: name a mirror that keeps it in the apt sources"; }
  printf 'deb %s bullseye main\ndeb-src %s bullseye main\ndeb-src %s bookworm main\n' \
    "$mirror" "$mirror" "$mirror" > "$root.part/etc/apt/sources.list"
  mv "$root.part" "$root"
fi
cp /etc/resolv.conf /etc/hosts "$root/etc/"
mkdir -p "$root/w"
[ -d "$root/w/tools/cmake" ] || cp -a "$("$work/env/bin/python" -c "import cmake, os; print(os.path.dirname(cmake.__file__))")" \
  "$(mkdir -p "$root/w/tools" && echo "$root/w/tools/")"
if [ ! -d "$root/w/glog-source" ]; then
  git init -q --bare "$work/glog.git"
  git -C "$work/glog.git" fetch -q "${GLOG_GIT:-https://github.com/google/glog.git}" v0.7.1
  mkdir "$root/w/glog-source"
  git -C "$work/glog.git" archive $glog | tar x -C "$root/w/glog-source"  # whose hash says what it is
fi
[ -d "$work/caffe" ] || fork/fetch_caffe.sh "$work/caffe"

# ---- What is compiled

step "Compiling protobuf, glog and OpenCV in Debian 11"
cp scripts/wheel/libraries.sh "$root/w/"
{ inside apt-get -q update && inside bash /w/libraries.sh; } > "$work/libraries.log" 2>&1 || { tail -n 40 "$work/libraries.log" >&2; fail "see $work/libraries.log"; }

step "Compiling Caffe"
python3 fork/assemble.py --caffe "$work/caffe" --project . --output "$work/fork" > /dev/null
version=$(python3 -c "import re; print(re.search('__version__ = \"(.*)\"', open('python/active_convolution/__init__.py').read())[1])")
scripts/wheel/compile.sh "$root" "$work" "1.0.0+acu$version"

step "Linking"
mkdir -p "$work/vendored" "$root/w/openblas"
blas=$("$work/env/bin/python" -c "import scipy_openblas32 as b; print(b.get_lib_dir())")
cp "$blas/libscipy_openblas.so" "$root/usr/lib/x86_64-linux-gnu/libgomp.so.1" "$work/vendored/"
cp "$blas/libscipy_openblas.so" "$root/w/openblas/"
cp scripts/wheel/link.sh scripts/wheel/std.c "$root/w/"
inside TOOLS="$TOOLS" bash /w/link.sh > "$work/link.log" 2>&1 || { tail -n 40 "$work/link.log" >&2; fail "see $work/link.log"; }

step "Packing"
"$work/env/bin/python" scripts/wheel/pack.py "$work" dist
step "Comparing the speed with the ordinary build's"
if [ -e build/fork/python/caffe/libcaffe.so ]; then scripts/wheel/speed.sh "$work"; else echo "not compared: there is no build/"; fi
ls -l dist/*.whl
