#!/usr/bin/env bash
# Compiles our C++ with other compilers than the build's, as C++11, which the oldest trees ask for; then runs the layer's
# C++ tests on the CPU's kernels and pass that each of them made. Needs ./scripts/build.sh --tests first.
#
#   ./scripts/check_compilers.sh [COMPILER ...]     (default: an old GCC and a Clang, installed where they are missing)
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 1; }

flags_of_build=build/out/src/caffe/test/CMakeFiles/test.testbin.dir/flags.make
[ -f "$flags_of_build" ] && [ -x build/out/test/test.testbin ] || fail "build/ holds no finished build: run ./scripts/build.sh --tests"
compilers=("$@")
if [ $# = 0 ]; then
  ./scripts/setup.sh --compilers
  first() { local name; for name; do ! command -v "$name" || return 0; done; }
  compilers=("$(first g++-11 g++-13)" "$(first clang++-14 clang++-19)")
fi
for compiler in "${compilers[@]}"; do command -v "$compiler" > /dev/null || fail "there is no compiler '$compiler'"; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
read -ra flags <<< "$(sed -n 's/^CXX_\(DEFINES\|INCLUDES\) = //p' "$flags_of_build" | tr '\n' ' ')"
flags+=(-std=c++11 -fPIC -Wall -Wno-sign-compare -Wno-uninitialized -Wno-unknown-pragmas)  # Caffe's, and no OpenMP
made=(src/caffe/util/active_cpu_*.cpp)
mapfile -t looked_at < <(printf '%s\n' src/caffe/*/*.cpp tools/*.cpp | grep -vxF "$(printf '%s\n' "${made[@]}")")

compile() {  # compile COMPILER: each of `made`, and looks at the others
  local source
  {
    for source in "${made[@]}"; do printf '%s\0' "-O2 -c -o $work/$(basename "$source").o build/fork/$source"; done
    for source in "${looked_at[@]}"; do printf '%s\0' "-fsyntax-only build/fork/$source"; done
  } | xargs -0 -P "$(nproc)" -I{} sh -c "exec $(printf '%q ' "$1" "${flags[@]}") {}"
}

for compiler in "${compilers[@]}"; do
  compile "$compiler" || fail "$compiler does not compile our sources as C++11: the reason stands above"
  library=$work/$(basename "$compiler").so
  "$compiler" -shared -o "$library" "$work"/*.o
  # The dynamic linker takes what is loaded first; its own account says that it did.
  test=(env LD_PRELOAD="$library" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" ../out/test/test.testbin --gtest_color=no)
  (cd build/fork && LD_DEBUG=bindings "${test[@]}" --gtest_filter='ActiveGpuPassTest/0.TestEmptyBatch') 2>&1 |
    grep "to $library .*AllActiveCpuKernels" > /dev/null || fail "the tests do not take the kernels of $compiler"
  (cd build/fork && "${test[@]}" --gtest_filter='Active*:AConv*') > "$work/log" 2>&1 ||
    { cat "$work/log"; fail "tests fail on the kernels of $compiler: see above"; }
  echo "$compiler: $((${#made[@]} + ${#looked_at[@]})) sources as C++11; $(sed -n 's/^\[  PASSED  \] //p' "$work/log") (on its kernels)"
done
