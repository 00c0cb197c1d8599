#!/usr/bin/env bash
# Readies Debian for an image that only runs programs; for the inside of an image build, as root, before setup.sh --run.
set -euo pipefail

# Documentation and translations stay out; licences stay in.
cat > /etc/dpkg/dpkg.cfg.d/lean <<'LEAN'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/man/*
LEAN

# Debian's SciPy depends on Pythran, and that on a whole C++ compiler, which only SciPy's own build needs: an empty
# package takes its place.
package=$(mktemp -d)
mkdir -m 755 "$package/DEBIAN"
cat > "$package/DEBIAN/control" <<'CONTROL'
Package: python3-pythran
Version: 99
Architecture: all
Maintainer: active-convolution
Description: stands in for Pythran, so that no compiler is installed
CONTROL
dpkg-deb --build "$package" "$package.deb"
dpkg --install "$package.deb"
rm -r "$package" "$package.deb"
