#!/usr/bin/env bash
# Tries the wheel in dist/ in fresh Debians, as a user without root who has python3-venv and nothing else of ours. As root.
#
#   ./scripts/check_wheel.sh [SUITE...]      SUITE: bullseye (Debian 11), bookworm, trixie, sid [bullseye trixie sid]
#
# Installs it with what it depends on, runs acu demo, what scripts/wheel/try.py tries, and tests of the package. The output of each
# stays in build-system/wheel-SUITE.log. The systems are made with debootstrap below TMPDIR, and removed at the end.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."
fail() { echo "error: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "a system of its own needs root"
wheel=$(echo dist/*.whl)
[ -e "$wheel" ] || fail "there is no wheel in dist/: ./scripts/wheel.sh"
[ $# -gt 0 ] || set -- bullseye trixie sid
tests="binding positions pycaffe_messages layer_oracle"

work=$(mktemp -d)
chmod 755 "$work"
trap 'umount --lazy "$work"/*/{proc,dev/shm,dev} 2> /dev/null || true; rm -rf --one-file-system "$work"' EXIT

check() {  # check SUITE: everything of it goes to the log
  local system=$work/$1 home=/home/newcomer
  docker/make_base.sh "$1" "$system"
  mount -t proc proc "$system/proc"
  mount --bind /dev "$system/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$system/dev/shm"
  cp --dereference /etc/resolv.conf /etc/hosts "$system/etc/"
  in_system "$system" apt-get -q update
  in_system "$system" env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install python3-venv
  in_system "$system" useradd --create-home --shell /bin/bash newcomer
  mkdir "$system$home/project"
  cp "$wheel" scripts/wheel/try.py "$system$home/"
  git ls-files -z | grep -zv '^python/active_convolution/' | tar -c --null -T - | tar -x -C "$system$home/project"
  in_system "$system" chown -R newcomer: $home
  in_system "$system" su newcomer -s /bin/bash -c "set -e; cd
    python3 --version
    python3 -m venv env
    env/bin/pip install -q \"./$(basename "$wheel")[hdf5]\" onnx pytest
    env/bin/acu --version
    env/bin/acu demo
    env/bin/python try.py
    cd project && ~/env/bin/python -m pytest -q -m 'not slow' $(printf 'python/tests/test_%s.py ' $tests)"
}
in_system() { local system=$1; shift; chroot "$system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"; }

mkdir -p build-system
for suite in "$@"; do
  log=build-system/wheel-$suite.log started=$SECONDS
  (check "$suite") > "$log" 2>&1 || { tail -n 40 "$log"; fail "$suite: the end of its output stands above, all of it in $log"; }
  echo "$suite, $(grep -m1 '^Python 3' "$log"): ok, $((SECONDS - started)) s"
done
