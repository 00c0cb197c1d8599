#!/usr/bin/env bash
# Fetches the source package `caffe` that Debian publishes in its bullseye release, and unpacks it as the folder DEST.
#
#   fork/fetch_caffe.sh DEST
#
# apt does the work in a private configuration: the machine's own sources, lists and cache are read, never changed.
# The mirror is the one that the machine's apt sources name. apt checks the release file against Debian's archive keys,
# and the package's files against the checksums in it; whatever does not check out ends here. DEST appears whole or not.
set -euo pipefail

readonly release=bullseye
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
readonly remedy="or give a Caffe tree of your own: ./scripts/build.sh --caffe DIR"

fail() { echo "error: $*" >&2; exit 1; }

[ $# = 1 ] || fail "usage: $0 DEST"
dest=$(realpath -m "$1")
[ ! -e "$dest" ] || fail "$dest exists already"
for tool in apt-get dpkg-source gpgv; do
  command -v "$tool" >/dev/null || fail "$tool is missing: run ./scripts/setup.sh, $remedy"
done
[ -r "$keyring" ] || fail "$keyring is missing: install debian-archive-keyring, $remedy"

mkdir -p "$(dirname "$dest")"
work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/package"

mirrors=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
          awk '$1 == "Debian" { print $2 }' | sort -u)
[ -n "$mirrors" ] || mirrors=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | sort -u)
[ -n "$mirrors" ] || fail "no Debian mirror in this machine's apt sources (run apt-get update), $remedy"

private_apt() {
  apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" \
    -o APT::Get::AllowUnauthenticated=false -o Acquire::AllowInsecureRepositories=false \
    -o APT::Update::Error-Mode=any -o APT::Get::List-Cleanup=false "$@"
}

fetch_from() {
  echo "deb-src [signed-by=$keyring] $1 $release main" > "$work/sources.list"
  private_apt update && (cd "$work/package" && private_apt source --download-only --only-source caffe)
}

fetched=
for mirror in $mirrors; do
  echo "Fetching Debian's source package caffe ($release) from $mirror"
  if fetch_from "$mirror" > "$work/log" 2>&1; then fetched=yes; break; fi
  sed 's/^/  apt: /' "$work/log" >&2
done
[ -n "$fetched" ] || fail "apt could not fetch and verify caffe from $release (above), $remedy"

# apt has just verified the .dsc by the signed release; the uploader's own key need not be installed here.
dsc=$(find "$work/package" -name 'caffe_*.dsc')
dpkg-source --no-check -x "$dsc" "$work/tree" > "$work/log" 2>&1 ||
  { cat "$work/log" >&2; fail "dpkg-source could not unpack $(basename "$dsc")"; }
mv "$work/tree" "$dest"
echo "Caffe's source: $(basename "$dsc" .dsc)"
