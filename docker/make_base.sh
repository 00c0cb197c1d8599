#!/usr/bin/env bash
# Makes a fresh Debian in the folder DIR with debootstrap, as root; its apt asks the mirror that this machine's apt does,
# and pip has this machine's settings and certificates.
#
#   docker/make_base.sh SUITE DIR      SUITE: bookworm (Debian 12), trixie (Debian 13), or another that debootstrap knows
set -euo pipefail
[[ ${1-} != @(-h|--help) ]] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit; }

fail() { echo "error: $*" >&2; exit 1; }

[ $# = 2 ] || { echo "error: usage: $0 SUITE DIR" >&2; exit 2; }
suite=$1 dir=$2
command -v debootstrap > /dev/null || fail "debootstrap is missing: apt-get install debootstrap"
[ "$(id -u)" = 0 ] || fail "debootstrap needs root"
[ -e "/usr/share/debootstrap/scripts/$suite" ] || { echo "error: debootstrap knows no $suite" >&2; exit 2; }

# "MIRROR RELEASE" of every Debian source: the archive's, and those for security, whose addresses differ.
sources=$(apt-get indextargets --format '$(LABEL) $(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' |
          awk '$1 ~ /^Debian/ { print $2, $3 }' | sort -u)
archive=$(awk '$2 !~ /security/ { print $1; exit }' <<< "$sources")
security=$(awk '$2 ~ /security/ { print $1; exit }' <<< "$sources")
[ -n "$archive" ] || fail "no Debian mirror in this machine's apt sources (run apt-get update)"

debootstrap --variant=minbase --include=ca-certificates "$suite" "$dir" "$archive"
{
  echo "deb $archive $suite main"
  [ "$suite" = sid ] || echo "deb $archive $suite-updates main"
  [ -z "$security" ] || [ "$suite" = sid ] || echo "deb $security $suite-security main"
} > "$dir/etc/apt/sources.list"
apt-config dump | grep '^Acquire::' > "$dir/etc/apt/apt.conf.d/50machine"  # proxies, say
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$dir/etc/"
[ ! -d /usr/local/share/ca-certificates ] || cp -r /usr/local/share/ca-certificates "$dir/usr/local/share/"
chroot "$dir" update-ca-certificates
echo 'Acquire::Languages "none";' > "$dir/etc/apt/apt.conf.d/60languages"
echo force-unsafe-io > "$dir/etc/dpkg/dpkg.cfg.d/unsafe-io"
rm -rf "$dir"/var/cache/apt/archives/*.deb "$dir"/var/lib/apt/lists/*
