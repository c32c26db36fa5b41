#!/bin/sh
# Debian packages that the lab needs. Run as root: install.sh, or install.sh vm for the slow tier.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# Tiers 0 to 2: devices in namespaces, emulated ones included.
apt-get install -q -y --no-install-recommends mmdebstrap debian-archive-keyring qemu-user-static \
  openssh-client rsync adb iproute2 util-linux e2fsprogs
# Tier 3: a whole emulated machine.
if [ "${1:-}" = vm ]; then
  apt-get install -q -y --no-install-recommends qemu-system-arm device-tree-compiler cpio kmod
fi
