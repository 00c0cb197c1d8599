#!/usr/bin/env bash
# Makes a fresh Debian and runs both commands in it as a newcomer would: a user with sudo, git, and this tree. As root.
#
#   ./scripts/check_system.sh [--demo | --test] SUITE...      SUITE: bookworm (Debian 12), trixie (Debian 13)
#
#   --demo, --test  only that command
#
# Says how long each took, and ends with an error where one failed; its whole output stays in build-system/SUITE/. The
# system is made with debootstrap below TMPDIR, lives in a chroot, and is removed at the end. ../shared, where it is there,
# is there for the tests, too.
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }
cd "$(dirname "$0")/.."

fail() { echo "error: $*" >&2; exit 1; }

commands=(demo test)
case ${1-} in --demo) commands=(demo); shift ;; --test) commands=(test); shift ;; esac
[[ $# -gt 0 && $1 != -* ]] || { echo "error: usage: $0 [--demo | --test] SUITE..." >&2; exit 2; }
for tool in debootstrap chroot git mount; do
  command -v $tool > /dev/null || fail "$tool is missing: apt-get install debootstrap git mount"
done
[ "$(id -u)" = 0 ] || fail "a system of its own needs root"

work=$(mktemp -d)
chmod 755 "$work"
system=
home=/home/newcomer
mounted=()

cleanup() {
  local place
  for place in $(printf '%s\n' "${mounted[@]}" | tac); do umount --lazy "$place" || true; done
  mounted=()
  [ -z "$system" ] || rm -rf --one-file-system "$system"
}
trap 'cleanup; rm -rf --one-file-system "$work"' EXIT

mount_in() {  # mount_in PLACE MOUNT'S ARGUMENTS...
  mkdir -p "$system$1"
  mount "${@:2}" "$system$1"
  mounted+=("$system$1")
}

step() {  # step NAME LOG COMMAND...: the command's output goes to the log, and its end is shown where it fails
  local started=$SECONDS status=0
  "${@:3}" > "$2" 2>&1 || status=$?
  [ $status = 0 ] || { tail -n 60 "$2"; fail "$1: the end of its output stands above, all of it in $2"; }
  echo "$1: ok, $((SECONDS - started)) s"
}

in_system() {
  chroot "$system" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
}
as_newcomer() { in_system su newcomer -s /bin/bash -c "cd $home/active-convolution && $1"; }

# What a newcomer brings: a user who may use sudo, the programs the README asks for, and the files of this tree.
prepare() {
  in_system update-ca-certificates
  in_system apt-get update -q
  in_system env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends git sudo
  in_system useradd --create-home --shell /bin/bash newcomer
  echo 'newcomer ALL=(ALL) NOPASSWD: ALL' > "$system/etc/sudoers.d/newcomer"
  mkdir "$system$home/active-convolution"
  git ls-files -z --cached --others --exclude-standard --deduplicate | while IFS= read -rd '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
  done | tar --create --null --files-from=- | tar --extract --no-same-owner --directory "$system$home/active-convolution"
  in_system chown -R newcomer: $home
}

# How this machine reaches the network: its names, certificates of its own, and pip's settings.
take_the_network() {
  local file
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
    [ ! -e $file ] || cp --dereference $file "$system/etc/"
  done
  mkdir -p "$system/usr/local/share/ca-certificates"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp --target-directory "$system/usr/local/share/ca-certificates/" {} +
}

check() {  # check SUITE
  local command logs=build-system/$1
  system=$work/$1
  mkdir -p "$logs"
  step "$1: the system" "$logs/system.log" docker/make_base.sh "$1" "$system"
  mount_in /proc -t proc proc
  mount_in /sys -t sysfs -o ro sysfs
  mount_in /dev --bind /dev
  mount_in /dev/pts -t devpts -o newinstance,ptmxmode=0666 devpts
  mount_in /dev/shm -t tmpfs -o mode=1777 tmpfs
  take_the_network
  step "$1: a newcomer's user, git and sudo" "$logs/newcomer.log" prepare
  if [ -d ../shared ]; then mount_in $home/shared --bind -o ro "$(realpath ../shared)"; fi
  for command in "${commands[@]}"; do
    step "$1: ./scripts/$command.sh" "$logs/$command.log" as_newcomer ./scripts/$command.sh
    case $command in demo) tail -n 6 "$logs/$command.log" ;; test) tail -n 1 "$logs/$command.log" ;; esac
  done
  cleanup
  system=
}

for suite in "$@"; do check "$suite"; done
echo "Checked: $*"
