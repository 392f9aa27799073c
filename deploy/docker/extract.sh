#!/bin/sh
# Usage: extract.sh ARCHITECTURE ROOT PACKAGE...
#
# Extracts Debian packages and all that they depend on into the folder ROOT, and runs none of their scripts: a root
# file system without a shell and a package manager, of any architecture. ROOT/var/lib/dpkg/status.d records the
# packages, as in Google's distroless images, for scanners. Packages that BELOW (a root of an earlier layer) already
# has are left out.
set -eu
architecture=$1 root=$2
shift 2
work=$(mktemp -d)
mkdir -p "$work/archives/partial" "$work/lists/partial" "$root/var/lib/dpkg/status.d"
find "${BELOW:-$root}/var/lib/dpkg/status.d" -type f -exec cat {} + > "$work/status"
cat > "$work/apt.conf" << END
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::State::status "$work/status";
Dir::State::lists "$work/lists";
Dir::Cache::archives "$work/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END
export APT_CONFIG="$work/apt.conf"
apt-get update --quiet=2
apt-get install --quiet=2 --yes --download-only "$@"
for package in "$work"/archives/*.deb; do
  dpkg-deb --extract "$package" "$root"
  name=$(dpkg-deb --field "$package" Package)
  { dpkg-deb --field "$package"; printf 'Status: install ok installed\n\n'; } > "$root/var/lib/dpkg/status.d/$name"
done
rm -r "$work"
# Copyrights stay, as the licences ask. What is removed serves installation scripts, manuals, shells and services.
find "$root/usr/share/doc" -mindepth 2 ! -name copyright -delete
cd "$root"
rm -rf etc/apt etc/default etc/init.d etc/profile.d etc/skel etc/update-motd.d usr/bin/debconf* usr/bin/mawk \
  usr/lib/systemd usr/lib/*/gconv usr/sbin/dpkg-* usr/share/applications usr/share/bash-completion usr/share/debconf \
  usr/share/info usr/share/lintian usr/share/locale usr/share/man usr/share/perl5 usr/share/pixmaps
