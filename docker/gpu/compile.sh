#!/usr/bin/env bash
# Compiles the fork of a Caffe tree for GPUs, in build/: from the project's root.
#
#   docker/gpu/compile.sh TREE CAPABILITIES      (compute capabilities without dots, such as "80 90")
set -euo pipefail
[ -e /usr/local/cuda ] || export CUDAHOSTCXX=/usr/bin/g++-11  # Debian's CUDA takes no newer one
if [ -e /usr/include/nccl.h ]; then nccl=ON; else nccl=OFF; fi
cmake -S . -B build -DCPU_ONLY=OFF -DUSE_NCCL=$nccl -DCUDA_ARCH_BIN="$2" -DCAFFE_SOURCE_DIR="$PWD/$1" "-DFORK_TARGETS=all;test.testbin"
cmake --build build --parallel "$(nproc)"
# Without CUDA, Caffe only warns and builds for the CPU.
readelf --dynamic build/out/lib/libcaffe.so | grep 'NEEDED.*libcublas'
