#!/usr/bin/env bash
# Installs Debian's CUDA toolkit where the base image has none, as root.
#
#   docker/gpu/toolkit.sh
set -euo pipefail
[ ! -e /usr/local/cuda ] || exit 0
"$(dirname "$0")/add_nonfree.sh"
apt-get update -q
# CUDA 11.8 takes no compiler newer than GCC 11; a base with CUDA of its own brings one that fits.
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nvidia-cuda-toolkit g++-11
apt-get clean
