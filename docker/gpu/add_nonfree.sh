#!/usr/bin/env bash
# Adds Debian's components contrib and non-free, where its CUDA lies, to every apt source that has main:
#
#   docker/gpu/add_nonfree.sh [FOLDER]      (default: /etc/apt)
set -euo pipefail

apt=${1:-/etc/apt}
shopt -s nullglob
found=
for file in "$apt"/sources.list "$apt"/sources.list.d/*.{list,sources}; do
  [ -f "$file" ] || continue
  # The components are the fields of "Components:" (deb822), or the last ones of a "deb" line.
  case $file in *.sources) source='^Components:' ;; *) source='^deb' ;; esac
  for component in contrib non-free; do
    sed -Ei "/$source/ { / main( |\$)/ { / $component( |\$)/! s/ *\$/ $component/ } }" "$file"
  done
  if grep -Eq "$source.* main( .*)? non-free( |\$)" "$file"; then found=yes; fi
done
[ -n "$found" ] || { echo "error: no apt source below $apt has Debian's component main" >&2; exit 1; }
