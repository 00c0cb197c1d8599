#!/usr/bin/env bash
# Inside Debian 11: links the objects of compile.sh and all that they need to /w/libcaffe.so, which shows the C interface alone.
set -euo pipefail
cd /w
mkdir -p system
for library in boost_filesystem boost_system boost_thread gflags hdf5_serial hdf5_serial_hl jpeg leveldb lmdb png16 snappy sz aec z; do
  cp "/usr/lib/x86_64-linux-gnu/lib$library.a" system/
  objcopy --redefine-sym stdin=acu_stdin --redefine-sym stdout=acu_stdout --redefine-sym stderr=acu_stderr "system/lib$library.a"
done
gcc -O2 -fPIC -c std.c -o std.o
echo '{ global: caffe_*; main_of_*; local: *; };' > exports.map
g++ -shared -fopenmp -o libcaffe.so objects/*.o std.o \
  opencv/lib/libopencv_imgcodecs.a opencv/lib/libopencv_imgproc.a opencv/lib/libopencv_core.a $(find opencv -path '*3rdparty*' -name '*.a') \
  glog/lib/libglog.a protobuf/libprotobuf.a \
  -Lsystem -l:libboost_filesystem.a -l:libboost_thread.a -l:libboost_system.a -l:libgflags.a -l:libhdf5_serial_hl.a \
  -l:libhdf5_serial.a -l:libsz.a -l:libaec.a -l:liblmdb.a -l:libleveldb.a -l:libsnappy.a -l:libjpeg.a -l:libpng16.a -l:libz.a \
  -Lopenblas -lscipy_openblas -static-libstdc++ -static-libgcc -Wl,--version-script=exports.map -Wl,-Bsymbolic \
  -Wl,--gc-sections -Wl,-O1 -Wl,--as-needed -Wl,-z,defs -lpthread -ldl -lm
mkdir -p programs
for tool in $TOOLS; do  # each starts what is in the library
  printf 'int main_of_%s(int, char**);\nint main(int argc, char** argv) { return main_of_%s(argc, argv); }\n' "$tool" "$tool" > "$tool.c"
  gcc "$tool.c" -o "programs/$tool" -L. -l:libcaffe.so -Wl,-rpath-link,openblas
done
strip -s libcaffe.so programs/*
nm -D --defined-only libcaffe.so | awk '{ print $3 }' > exported
