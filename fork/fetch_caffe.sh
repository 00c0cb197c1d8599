#!/usr/bin/env bash
# Fetches Caffe's source, BVLC's commit 99bd997 of August 2018, and unpacks it as the folder DEST.
#
#   fork/fetch_caffe.sh DEST
#
# Three places are tried in turn; what none of them vouches for ends here, and DEST appears whole or not:
#
# 1. A cache folder: a Caffe tree, or a tarball of one, at CAFFE_CACHE/caffe* (default:
#    ~/.cache/active-convolution). Git's hash of all its files must be that of the commit.
# 2. Debian's source package `caffe` of its release bullseye, which is that commit with Debian's patches. apt does the
#    work in a private configuration: the machine's own sources, lists and cache are read, never changed. Asked are the
#    Debian mirrors that the machine's apt sources name, then those in DEBIAN_MIRRORS (addresses, such as one that keeps old
#    releases); no other system's. apt checks the release file against Debian's archive keys, and the package's files
#    against the checksums in it.
# 3. A git repository, by default BVLC's; CAFFE_GIT gives another address, a mirror's or a folder's. The hash of the
#    commit is the check.
set -euo pipefail

readonly commit=99bd99795dcdf0b1d3086a8d67ab1782a8a08383
readonly files=660066a34ecbb387946ab4feede1b916ef0bcfa5  # git's hash of the commit's files
readonly release=bullseye
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg
readonly cache=${CAFFE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/active-convolution}
readonly repository=${CAFFE_GIT:-https://github.com/BVLC/caffe.git}

fail() { echo "error: $*" >&2; exit 1; }

[ $# = 1 ] || { echo "error: usage: $0 DEST" >&2; exit 2; }
dest=$(realpath -m "$1")
[ ! -e "$dest" ] || fail "$dest exists already"
mkdir -p "$(dirname "$dest")"
work=$(mktemp -d "$dest.XXXXXX")
trap 'rm -rf "$work"' EXIT
log=$work/log

# Each place leaves Caffe's source in $work/tree and says in $found what it is, or says in $reason why it has none.
found= reason=

tools_are_there() {  # tools_are_there TOOL...
  local tool
  for tool in "$@"; do
    command -v "$tool" > /dev/null || { reason="$tool is missing"; return 1; }
  done
}

plain_git() { GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git -c safe.directory='*' "$@"; }  # no user's settings

has_the_files_of_the_commit() {  # has_the_files_of_the_commit FOLDER
  rm -rf "$work/hash.git"
  plain_git init --quiet --bare "$work/hash.git"
  [ "$(cd "$1" && plain_git --git-dir="$work/hash.git" --work-tree=. add --all --force . &&
       plain_git --git-dir="$work/hash.git" write-tree)" = $files ]
}

# ---- The three places

from_cache() {
  local entry entries root
  shopt -s nullglob
  entries=("$cache"/caffe*)
  [ ${#entries[@]} -gt 0 ] || { reason="there is no $cache/caffe*"; return 1; }
  tools_are_there git tar || return 1
  for entry in "${entries[@]}"; do
    root=$entry
    if [ -f "$entry" ]; then
      rm -rf "$work/unpacked"
      mkdir "$work/unpacked"
      tar --extract --no-same-owner --file "$entry" --directory "$work/unpacked" 2> "$log" ||
        { reason+="${reason:+; }$entry cannot be unpacked"; continue; }
      root=$(dirname "$(find "$work/unpacked" -maxdepth 2 -name CMakeLists.txt -print -quit)")
    fi
    if [ -f "$root/CMakeLists.txt" ] && has_the_files_of_the_commit "$root"; then
      cp -a --no-preserve=ownership "$root" "$work/tree"
      found="$entry, BVLC's commit ${commit:0:7}"
      return
    fi
    reason+="${reason:+; }$entry is not BVLC's commit ${commit:0:7}: its files have another hash"
  done
  return 1
}

from_debian() {
  local mirror
  tools_are_there apt-get dpkg-source gpgv || return 1
  [ -r "$keyring" ] || { reason="$keyring is missing (package debian-archive-keyring)"; return 1; }
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/package"
  reason="no Debian mirror in this machine's apt sources: DEBIAN_MIRRORS can name one"
  for mirror in $(debian_mirrors_of_this_machine) ${DEBIAN_MIRRORS-}; do
    echo "Fetching Debian's source package caffe ($release) from $mirror"
    if package_from "$mirror" > "$log" 2>&1; then
      # apt has just verified the .dsc by the signed release; the uploader's own key need not be installed here.
      found="$(basename "$work/package"/caffe_*.dsc .dsc) of Debian"
      dpkg-source --no-check -x "$work/package"/caffe_*.dsc "$work/tree" > "$log" 2>&1 && return
      reason="dpkg-source could not unpack $found"
      break
    fi
    reason="apt could not fetch and verify caffe from $release"
    sed 's/^/  apt: /' "$log" >&2
  done
  return 1
}

debian_mirrors_of_this_machine() {
  apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" { print $2 }' | sort -u
}

package_from() {  # package_from MIRROR
  echo "deb-src [signed-by=$keyring] $1 $release main" > "$work/sources.list"
  private_apt update && (cd "$work/package" && private_apt source --download-only --only-source caffe)
}

private_apt() {
  apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" \
    -o APT::Get::AllowUnauthenticated=false -o Acquire::AllowInsecureRepositories=false -o Acquire::Retries=0 \
    -o APT::Update::Error-Mode=any -o APT::Get::List-Cleanup=false "$@"
}

from_git() {
  tools_are_there git tar || return 1
  echo "Fetching Caffe's commit ${commit:0:7} from $repository"
  git init --quiet --bare "$work/caffe.git"
  # A server that gives no single commit gives all its branches.
  if ! commit_from "$repository" $commit --depth=1 > "$log" 2>&1 && ! commit_from "$repository" '+refs/*:refs/*' >> "$log" 2>&1
  then
    sed 's/^/  git: /' "$log" >&2
    reason="git could not fetch the commit $commit from $repository"
    return 1
  fi
  mkdir "$work/tree"
  plain_git --git-dir="$work/caffe.git" archive $commit | tar --extract --directory "$work/tree"
  has_the_files_of_the_commit "$work/tree" || { reason="$repository has the commit, but not its files"; return 1; }
  found="BVLC's commit ${commit:0:7} of $repository"
}

commit_from() {  # commit_from REPOSITORY WHAT [OPTION...]
  GIT_TERMINAL_PROMPT=0 git --git-dir="$work/caffe.git" fetch --quiet --no-tags "${@:3}" "$1" "$2" &&
    git --git-dir="$work/caffe.git" cat-file -e "$commit^{commit}"
}

# ---- The first of them that has it

reasons=()
for place in cache debian git; do
  reason=
  rm -rf "$work/tree"
  if from_$place; then break; fi
  found=
  reasons+=("$place: $reason")
done
[ -n "$found" ] || {
  printf '  no source from %s\n' "${reasons[@]}" >&2
  fail "Caffe's source is nowhere to be had (above): mend one of the places that $0 names, or give a Caffe tree of" \
    "your own: ./scripts/build.sh --caffe DIR"
}
mv "$work/tree" "$dest"
echo "Caffe's source: $found"
