#!/usr/bin/env bash
# Builds the images and uses them as a user would: the tests, the demo, scripts and caffe by name, users of any number.
#
#   docker/check.sh [--own-tree] [--debian SUITE] [--network host] [cpu] [gpu] [wheel]    (default: cpu)
#
# --debian SUITE builds over a Debian that debootstrap makes (as root), such as trixie, Debian 13. Without it docker takes
# debian:12, and buildah makes bookworm, Debian 12.
# --network host builds in the machine's own network, for an engine that has none to give (dockerd --bridge=none).
# wheel is the image that only installs the wheel of dist/; its tests are those of scripts/check_wheel.sh.
# --own-tree also compiles the fork from a Caffe tree below the project's root, as a user's own: twice the compiling.
# CUDA_ARCH_BIN, where it is set, names the GPU image's compute capabilities, such as "90": fewer build faster. Without
# it the image has the Dockerfile's, and the fork of the tree 9.0 alone.
# With docker where its daemon answers, else as root with buildah, which needs no daemon. ../shared, where it is there,
# is mounted for the tests that need it. Everything lies in one temporary folder below TMPDIR, and is removed at the end.
# The GPU's image is built and started; the tests in it run where docker can give it a GPU.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 1; }

usage() { echo "error: usage: $0 [--own-tree] [--debian SUITE] [--network host] [cpu] [gpu] [wheel]" >&2; exit 2; }

own_tree=
suite=
options=()  # of every build
while [[ ${1-} = -* ]]; do
  case $1 in
    --own-tree) own_tree=$PWD/caffe-of-check-$$ ;;
    --debian) [[ ${2-} =~ ^[a-z]+$ ]] || usage; suite=$2; shift ;;
    --network) [ "${2-}" = host ] || usage; options+=(--network host); shift ;;
    *) usage ;;
  esac
  shift
done
kinds=("$@")
[ $# -gt 0 ] || kinds=(cpu)
for kind in "${kinds[@]}"; do [[ $kind =~ ^(cpu|gpu|wheel)$ ]] || usage; done
[[ " ${kinds[*]} " != *" wheel "* ]] || [ -e "$(echo dist/*.whl)" ] || fail "there is no wheel in dist/: ./scripts/wheel.sh"

work=$(mktemp -d)
log=$work/log
workspace=$work/workspace
mkdir -m 777 "$workspace"
mounts=(--volume "$workspace:/workspace")
if [ -d ../shared ]; then mounts+=(--volume "$(realpath ../shared):/opt/shared:ro"); fi

step() {  # step NAME COMMAND...: the command's output goes to the log, and its end is shown where it fails
  local started=$SECONDS status
  set +e  # tested by `if` or `||`, the function would not stop at its first error
  (set -e; "${@:2}") > "$log" 2>&1
  status=$?
  set -e
  [ $status = 0 ] || { tail -n 60 "$log"; fail "$1: the end of its output stands above"; }
  echo "$1: ok, $((SECONDS - started)) s"
}

# ---- Two engines: prepare; build KIND TARGET [OPTION...]; run_as USER IMAGE [NAME ARGUMENT...]; size IMAGE; cleanup

if docker info > /dev/null 2>&1; then
  engine=docker
  base=check-debian:$suite
  prepare() {
    [ -n "$suite" ] || return 0
    options+=(--build-arg "BASE=$base")
    step "Debian $suite" make_base
  }
  make_base() {
    docker/make_base.sh "$suite" "$work/base"
    tar --create --directory "$work/base" . | docker import - "$base"
    rm -rf "$work/base"
  }
  build() {
    docker build "${options[@]}" --file docker/Dockerfile --build-arg "KIND=$1" --target "$2" --tag "check-$1-$2" "${@:3}" .
  }
  run_as() { docker run --rm --user "$1" "${mounts[@]}" "${@:2}"; }
  size() { docker image ls --format '{{.Size}}' "$1"; }
  cleanup() {
    docker image rm check-{cpu,gpu}-{build,image,test,wheel} "$base" > /dev/null 2>&1 || true
    rm -rf "$work" ${own_tree:+"$own_tree"}
  }
else
  engine=buildah
  base=localhost/debian
  driver=vfs  # goes anywhere, but copies every layer
  if grep -qw overlay /proc/filesystems; then driver=overlay; fi

  buildah() { command buildah --storage-driver $driver --root "$work/storage" --runroot "$work/state" "$@"; }

  prepare() {
    command -v buildah > /dev/null && command -v debootstrap > /dev/null ||
      fail "no docker daemon answers, and its stand-ins are missing: apt-get install buildah debootstrap"
    [ "$(id -u)" = 0 ] || fail "no docker daemon answers, and buildah with debootstrap needs root"
    export BUILDAH_ISOLATION=chroot
    step "Debian ${suite:=bookworm}" make_base
  }

  make_base() {
    local container
    docker/make_base.sh "$suite" "$work/base"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$work/base" /
    buildah commit --quiet --rm "$container" $base
    rm -rf "$work/base"
  }

  build() {
    buildah build --layers --network host --file docker/Dockerfile --build-arg "KIND=$1" --build-arg BASE=$base --target "$2" \
      --tag "check-$1-$2" "${@:3}" .
  }

  run_as() {  # `buildah run` knows neither entrypoint nor default command: they are read from the image
    local container status=0 entrypoint command=("${@:3}")
    mapfile -t entrypoint < <(configured "$2" Entrypoint)  # none in the stage that builds
    [ $# -gt 2 ] || mapfile -t command < <(configured "$2" Cmd)
    container=$(buildah from "localhost/$2")
    buildah run --user "$1" "${mounts[@]}" "$container" -- "${entrypoint[@]}" "${command[@]}" || status=$?
    buildah rm "$container" > /dev/null
    return $status
  }

  configured() {
    buildah inspect --type image --format "{{range .OCIv1.Config.$2}}{{println .}}{{end}}" "localhost/$1" | grep .
  }
  size() { buildah images --format '{{.Size}}' "localhost/$1"; }
  cleanup() {
    { buildah rm --all; buildah rmi --all --force; umount "$work/storage/overlay"; } > /dev/null 2>&1 || true
    rm -rf --one-file-system "$work" ${own_tree:+"$own_tree"}
  }
fi

# ---- The checks: the fixed user of the image has number 1000; 4711 stands for a --user that no passwd file knows

refuses_what_is_no_caffe() {
  if build "$1" build --build-arg CAFFE_TREE=docs; then echo "docs/ was taken for a Caffe tree"; return 1; fi
  grep -q 'is not a Caffe source tree' "$log"
}

takes_a_caffe_tree_of_your_own() {
  local of_gpu=()
  [ "$1" = cpu ] || of_gpu=(--build-arg CUDA_ARCH_BIN="${CUDA_ARCH_BIN:-90}")
  [ -d "$own_tree" ] || {
    fork/fetch_caffe.sh "$own_tree"
    sed -i '/^set(CAFFE_TARGET_VERSION/s/1\.0\.0/1.0.4711/' "$own_tree/CMakeLists.txt"  # tells it from Debian's
  }
  build "$1" build --build-arg CAFFE_TREE="$(basename "$own_tree")" "${of_gpu[@]}"
  run_as 0 "check-$1-build" /opt/active-convolution/build/out/tools/caffe --version | grep 'version 1\.0\.4711$'
}

holds_what_runs() {
  run_as 1000 "$1" | grep '^  train '
  run_as 1000 "$1" caffe --version
  if run_as 1000 "$1" no_such_script; then echo "a missing script was not refused"; return 1; fi
  if run_as 1000 "$1" bash -c 'type -P cc c++ gcc g++ cmake nvcc'; then echo "there is a compiler"; return 1; fi
}

starts_as_a_normal_user() {
  local user
  case $engine in
    docker) user=$(docker image inspect --format '{{.Config.User}}' "$1") ;;
    buildah) user=$(buildah inspect --type image --format '{{.OCIv1.Config.User}}' "localhost/$1") ;;
  esac
  [ "$user" = caffe ] && [ "$(run_as "$user" "$1" id -u)" = 1000 ]
}

tests_pass() {
  run_as 1000 "$1"
  grep -q ' passed, 0 failed, ' "$log"
}

demo_runs() {
  run_as 1000 "$1" demo
  grep -q '^Learned positions: ' "$log"
  [ "$(stat -c %u "$workspace/runs/demo/positions.png")" = 1000 ]
}

trains_as_any_user() {
  mkdir -m 777 "$workspace/other"
  run_as 4711:4711 "$1" data digits --output other/data
  run_as 4711:4711 "$1" train models/digits/plain --variant acu --data other/data --output other/run --max-iter 20
  run_as 4711:4711 "$1" plot other/run --output other/positions.png
  run_as 4711:4711 "$1" caffe time --model=models/digits/plain/acu/deploy.prototxt --iterations=1
  [ "$(stat -c %u "$workspace/other/positions.png")" = 4711 ]
  rm -r "$workspace/other"
}

check_wheel() {
  local image=check-cpu-wheel
  step "wheel: build" build cpu wheel
  echo "wheel: the image has $(size $image)"
  step "wheel: holds what runs, and no compiler" holds_what_runs $image
  step "wheel: starts as a normal user" starts_as_a_normal_user $image
  step "wheel: trains as any user" trains_as_any_user $image
  step "wheel: demo" demo_runs $image
  tail -6 "$log"
}

check() {  # check KIND
  local image=check-$1-image test=check-$1-test
  local of_gpu=()
  if [ "$1" = gpu ] && [ -n "${CUDA_ARCH_BIN-}" ]; then of_gpu=(--build-arg "CUDA_ARCH_BIN=$CUDA_ARCH_BIN"); fi
  step "$1: build" build "$1" image "${of_gpu[@]}"
  step "$1: build with the tests" build "$1" test "${of_gpu[@]}"
  step "$1: refuses a CAFFE_TREE that is none" refuses_what_is_no_caffe "$1"
  if [ -n "$own_tree" ]; then
    step "$1: takes a CAFFE_TREE" takes_a_caffe_tree_of_your_own "$1"
  fi
  echo "$1: the image has $(size "$image"), with the tests $(size "$test")"
  step "$1: holds what runs, and no compiler" holds_what_runs "$image"
  step "$1: starts as a normal user" starts_as_a_normal_user "$image"
  step "$1: trains as any user" trains_as_any_user "$image"
  if [ "$1" = gpu ]; then
    if [ $engine = docker ] && nvidia-smi > /dev/null 2>&1; then mounts+=(--gpus all); else
      echo "gpu: no GPU for a container here, so its tests and its demo do not run"
      return
    fi
  fi
  step "$1: tests" tests_pass "$test"
  tail -1 "$log"
  step "$1: demo" demo_runs "$image"
  tail -6 "$log"
}

trap cleanup EXIT
prepare
for kind in "${kinds[@]}"; do
  if [ "$kind" = wheel ]; then check_wheel; else check "$kind"; fi
done
echo "Images checked with $engine: ${kinds[*]}"
