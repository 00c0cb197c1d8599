#!/usr/bin/env bash
# compile.sh ROOT WORK VERSION: the fork in WORK/fork to objects in ROOT/w/objects, by this system's compiler with the headers of the
# Debian 11 in ROOT, eight files at a time.
set -euo pipefail
root=$1 work=$2 version=$3
fork=$work/fork objects=$root/w/objects
mkdir -p "$objects" "$work/generated/caffe/proto"
protoc -I "$fork/src/caffe/proto" --cpp_out="$work/generated/caffe/proto" --python_out="$work/generated" caffe.proto

intrinsics=$(g++ -print-file-name=include)  # the compiler's own headers; all others are Debian 11's
gnu=x86_64-linux-gnu
flags=(-fPIC -fopenmp -O3 -DNDEBUG -std=gnu++17 -fvisibility=hidden -fvisibility-inlines-hidden -ffunction-sections -fdata-sections -w
  -DCAFFE_VERSION="$version" -DCPU_ONLY -DUSE_HDF5 -DUSE_LEVELDB -DUSE_LMDB -DUSE_OPENCV -DBOOST_ALL_NO_LIB
  -DGLOG_STATIC_DEFINE -DGLOG_USE_GLOG_EXPORT
  -I"$fork/include" -I"$work/generated" -I"$work/generated/caffe/proto" -I"$root/w/protobuf" -I"$root/w/glog/include" -I"$root/w/opencv/include/opencv4"
  -I"$work/headers" -nostdinc -nostdinc++ -isystem "$root/usr/include/c++/10" -isystem "$root/usr/include/$gnu/c++/10"
  -isystem "$intrinsics" -isystem "$root/usr/include/hdf5/serial" -isystem "$root/usr/include/$gnu" -isystem "$root/usr/include")

# Caffe includes OpenCV's highgui for what is imgcodecs' today, and OpenBLAS's cblas.h, whose names begin with scipy_ in PyPI's.
mkdir -p "$work/headers/opencv2/highgui"
for header in highgui.hpp highgui/highgui.hpp highgui/highgui_c.h; do
  echo '#include <opencv2/imgcodecs.hpp>' > "$work/headers/opencv2/$header"
done
blas=$("$work/env/bin/python" -c "import scipy_openblas32 as b; print(b.get_include_dir())")
cp "$blas/openblas_config.h" "$work/headers/"
{ grep -o 'scipy_cblas_[a-z0-9_]*' "$blas/cblas.h" | sort -u | sed 's/^scipy_\(.*\)/#define \1 &/'; cat "$blas/cblas.h"; } > "$work/headers/cblas.h"

mapfile -t sources < <(find "$fork/src/caffe" -name '*.cpp' ! -path "$fork/src/caffe/test/*" | sort)
rm -f "$objects"/*
for ((i = 0; i < ${#sources[@]}; i++)); do echo "#include \"${sources[i]}\""  >> "$objects/unity_$((i / 8)).cpp"; done
cp "$work/generated/caffe/proto/caffe.pb.cc" "$objects/caffe.pb.cpp"
echo "#include \"$fork/python/program.cpp\"" > "$objects/program.cpp"
for tool in $TOOLS; do
  printf '#include "caffe/c_api.h"\nextern "C" CAFFE_API int main_of_%s(int argc, char** argv);\n#define main main_of_%s\n#include "%s"\n' \
    "$tool" "$tool" "$fork/tools/$tool.cpp" > "$objects/$tool.cpp"
done

printf '%s\n' "$objects"/*.cpp | xargs -P "$(nproc)" -I{} sh -c 'echo "compiling $(basename {})"; exec "$@" -c {} -o {}.o' - \
  ${WHEEL_CXX:-g++} "${flags[@]}" > "$work/compile.log" 2>&1 || { grep -m 20 -A5 'error' "$work/compile.log" >&2; exit 1; }
