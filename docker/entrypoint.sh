#!/usr/bin/env bash
# Starts what the image holds, by name: a sub-command of acu, a script of scripts/ without its ending, or any program on the
# PATH.
#
# The working directory is the mounted /workspace. An argument models/..., or --option=models/..., that is not there is
# taken from the image.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

# What an image cannot do: these need a compiler, the CUDA toolkit or root, and the tests are there with --target test alone.
absent=" setup build sanitize check_gpu check_system check_compilers check_wheel wheel lint "
[ -d "$root/python/tests" ] || absent+="test campaign "

fail() { echo "error: $*" >&2; exit 127; }

subcommands() { "$root/scripts/acu" --help | grep '^  '; }

is_subcommand() { [ -n "$1" ] && [[ $'\n'$(subcommands) == *$'\n'"  $1 "* ]]; }

script() {  # prints the path of the script NAME
  local file
  for file in "$root/scripts/$1".{py,sh}; do
    if [ -x "$file" ] && [[ $absent != *" $1 "* ]]; then echo "$file"; return; fi
  done
  return 1
}

help() {
  cat <<'TEXT'
usage: docker run --rm --init --user "$(id -u):$(id -g)" -v "$PWD:/workspace" IMAGE NAME [ARGUMENT ...]

Relative paths are seen from /workspace; models/... is found in the image, too.
NAME is a sub-command of acu (NAME --help says more),

TEXT
  subcommands
  local file name
  [ ! -e "$root/scripts/test.sh" ] || printf '\nor a script,\n\n'  # the wheel brings none
  for file in "$root"/scripts/*.{py,sh}; do
    name=$(basename "${file%.*}")
    script "$name" > /dev/null && ! grep -q '^cli\.script' "$file" || continue
    printf '  %-10s %s\n' "$name" "$(sed -n '2 { s/^\(# \|"""\)//; s/"""$//; p }' "$file")"
  done
  printf '\n%s\n' "or any program of the image, such as caffe, python3 or bash; --version says what it holds."
}

[ $# -gt 0 ] || set -- help
name=$1
shift
case $name in
  help|--help|-h) help; exit 0 ;;
  --version) exec "$root/scripts/acu" --version ;;
esac

if [[ $name = test && $absent = *" test "* ]]; then
  fail "this image holds no tests: docker build --target test makes one that does"
fi
if is_subcommand "$name"; then
  program=("$root/scripts/acu" "$name")
else
  program=("$(script "$name" || type -P -- "$name")") ||
    fail "the image has no sub-command, script or program $name: \`docker run --rm IMAGE help\` lists what it has"
fi
mountpoint -q "$PWD" || echo "note: nothing is mounted at $PWD: what is written there ends with the container" >&2
[ -w . ] || echo "note: user $(id -u) may not write to $PWD: give docker run --user \"\$(id -u):\$(id -g)\"" >&2

arguments=()
for argument in "$@"; do
  path=${argument#--*=}
  if [[ $path == models/* && ! -e $path && -e $root/$path ]]; then argument=${argument%"$path"}$root/$path; fi
  arguments+=("$argument")
done
exec "${program[@]}" ${arguments[@]+"${arguments[@]}"}
