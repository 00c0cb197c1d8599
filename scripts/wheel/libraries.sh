#!/usr/bin/env bash
# Inside the chroot of scripts/wheel.sh: builds, as static and position-independent libraries below /w, what
# the wheel's library is linked with and Debian 11 does not have so. Each is built once.
set -euo pipefail
cd /w
jobs=$(nproc)
hidden="-fvisibility=hidden -ffunction-sections -fdata-sections"
cmake_build() {  # cmake_build NAME TARGET OPTION...: of NAME-source
  local name=$1 target=$2
  shift 2
  cmake -S "$name-source" -B "$name-build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="/w/$name" \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_POLICY_VERSION_MINIMUM=3.5 -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DBUILD_SHARED_LIBS=OFF \
    -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG $hidden" -DCMAKE_C_FLAGS_RELEASE="-O2 -DNDEBUG $hidden" "$@"
  ninja -C "$name-build" -j "$jobs" "$target"
}
debian_source() {  # debian_source PACKAGE SUITE: unpacked in PACKAGE-source; apt checks Debian's signatures
  rm -rf "$1.part" && mkdir "$1.part"
  (cd "$1.part" && apt-get -q source "$1/$2")
  mv "$1.part/$1"-*/ "$1-source"
}

# protobuf 3.21, whose messages Python's protobuf reads from 4.21 on; the host has the protoc.
if [ ! -e protobuf/libprotobuf.a ]; then
  [ -d protobuf-source ] || debian_source protobuf bookworm
  cmake_build protobuf libprotobuf -Dprotobuf_BUILD_TESTS=OFF -Dprotobuf_BUILD_PROTOC_BINARIES=OFF -Dprotobuf_WITH_ZLIB=OFF
  mkdir -p protobuf
  cp -a protobuf-source/src/google protobuf-build/libprotobuf.a protobuf/
fi

# glog from 0.7 on, whose fatal message may throw.
if [ ! -e glog/lib/libglog.a ]; then
  cmake_build glog install -DBUILD_TESTING=OFF -DWITH_UNWIND=none -DWITH_GFLAGS=ON -DWITH_TLS=OFF
fi

# Of OpenCV what reads and resizes images, with the system's libraries for JPEG and PNG alone.
if [ ! -e opencv/lib/libopencv_imgcodecs.a ]; then
  [ -d opencv-source ] || debian_source opencv bookworm
  off=(IPP ITT OPENCL LAPACK EIGEN TIFF WEBP OPENJPEG JASPER OPENEXR GDAL GDCM PROTOBUF QUIRC ADE GTK FFMPEG V4L
    GSTREAMER 1394 VA VA_INTEL IMGCODEC_HDR IMGCODEC_SUNRASTER IMGCODEC_PXM IMGCODEC_PFM)
  cmake_build opencv install -DBUILD_LIST=core,imgproc,imgcodecs $(printf -- "-DWITH_%s=OFF " "${off[@]}") \
    -DBUILD_TESTS=OFF -DBUILD_PERF_TESTS=OFF -DBUILD_EXAMPLES=OFF -DBUILD_opencv_apps=OFF -DBUILD_JAVA=OFF \
    -DBUILD_opencv_python3=OFF -DCPU_BASELINE=SSE3 -DCPU_DISPATCH= -DCV_TRACE=OFF -DENABLE_CCACHE=OFF \
    -DBUILD_ZLIB=OFF -DBUILD_JPEG=OFF -DBUILD_PNG=OFF
fi
