#!/bin/sh
# Prepares a Debian or Ubuntu host for the virtual machine suite; run as root.
#
#   tests/vm/prepare.sh [SUITE...]
#
# Installs the packages that the suite needs and that are missing, then builds the root images that are (default:
# bookworm). Under sudo the images go to the cache of the user who called it.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

if [ "$(id -u)" -ne 0 ]; then
    echo "prepare.sh: must run as root: sudo $0 $*" >&2
    exit 1
fi

# shellcheck source=/dev/null
. "$here/../../systemd/packages.sh"
for tool in qemu-system-x86_64 mmdebstrap mke2fs systemctl tar gpgv; do
    command -v "$tool" >/dev/null && continue
    install_packages qemu-system-x86 mmdebstrap e2fsprogs systemd tar gpgv debian-archive-keyring ca-certificates \
        python3
    break
done

user=${SUDO_USER:-root}
home=$(getent passwd "$user" | cut -d: -f6)
export OOMGUARD_VM_CACHE="${OOMGUARD_VM_CACHE:-$home/.cache/oomguard-vm}"
mkdir -p "$OOMGUARD_VM_CACHE"
"$here/image.py" "$@"
chown -R "$user:" "$OOMGUARD_VM_CACHE"
