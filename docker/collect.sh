#!/usr/bin/env bash
# Collects what an image keeps of a finished build, in the folder DEST:
#
#   docker/collect.sh BUILD DEST
#
#   DEST/run/       the libraries, the programs, pycaffe and what tells how they were built, laid out as BUILD lays them out
#   DEST/test/      what the tests need besides: the C++ test program and the files that Caffe's tests read
#   DEST/packages   the packages of the shared libraries that those link, for scripts/setup.sh --run
set -euo pipefail

[ $# = 2 ] || { echo "error: usage: $0 BUILD DEST" >&2; exit 1; }
build=$(realpath -e "$1")
mkdir "$2"
dest=$(realpath "$2")

mkdir -p "$dest"/run/{out/lib,out/tools,fork} "$dest"/test/{out/test,fork/src/caffe/test}
cp -a "$build/built.txt" "$dest/run/"
cp -a "$build"/out/lib/*.so* "$dest/run/out/lib/"
find "$build/out/tools" -maxdepth 1 -type f -executable -exec cp -t "$dest/run/out/tools/" {} +
cp -a "$build/fork/python" "$dest/run/fork/"
cp -a "$build/out/test/test.testbin" "$dest/test/out/test/"
cp -a "$build/fork/src/caffe/test/test_data" "$dest/test/fork/src/caffe/test/"

# Debian's own tool names the packages; it wants a (here empty) source package around it. A library that no package
# describes, such as one of a CUDA image, is the base image's to bring.
mkdir "$dest/debian"
printf 'Source: active-convolution\n\nPackage: active-convolution\nArchitecture: any\n' > "$dest/debian/control"
(cd "$dest" && dpkg-shlibdeps -O --ignore-missing-info -l"$dest/run/out/lib" \
   run/out/lib/*.so* run/out/tools/* test/out/test/test.testbin) \
  > "$dest/debian/dependencies" 2> "$dest/debian/log" ||
  { cat "$dest/debian/log" >&2; echo "error: dpkg-shlibdeps failed" >&2; exit 1; }
# "shlibs:Depends=libc6 (>= 2.34), libopenblas0 | libopenblas.so.0, ...": the first of each choice, without its version,
# and of those the real packages: dpkg knows no virtual one.
names=$(sed 's/^[^=]*=//; s/, */\n/g' "$dest/debian/dependencies" | sed 's/ *[(|].*//')
{ dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' $names 2>/dev/null || true; } |
  awk '$1 == "ii" { print $2 }' > "$dest/packages"
rm -r "$dest/debian"
[ -s "$dest/packages" ] || { echo "error: dpkg-shlibdeps named no package" >&2; exit 1; }
