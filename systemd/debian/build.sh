#!/bin/sh
# Builds the Debian package: one file for Debian 12 and 13, and for what has a Python between theirs.
#
#   build.sh [--output DIR]
#
#   --output DIR   where the .deb goes (default: dist, in this tree)
#
# Needs Debian or Ubuntu, and a network for the Python packages that go into it, as requirements.txt locks them (or
# PIP_NO_INDEX=1 and PIP_FIND_LINKS=DIR). Root gets missing build tools installed, others are told their names.
#
# Why the package brings its Python packages: Debian 12 has pydantic 1.10 and oomguard needs 2.10, and a guard should
# not stop because somebody replaced a library. pydantic's core, PyYAML and MarkupSafe are machine code for one version of Python,
# so each is in there once for every version below, and the package outlives an upgrade of the distribution.
set -eu
umask 022

tree=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
pythons='3.11 3.12 3.13 3.14' # as in debian/control

warn() { printf '%s\n' "build.sh: $*" >&2; }
die() {
    warn "$*"
    exit 1
}

# shellcheck source=/dev/null
. "$tree/systemd/packages.sh"

main() {
    output=$tree/dist
    while [ $# -gt 0 ]; do
        case $1 in
            --output)
                [ $# -ge 2 ] || usage
                output=$2
                shift
                ;;
            *) usage ;;
        esac
        shift
    done
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$tree/src/oomguard/__init__.py")
    [ -n "$version" ] || die "src/oomguard/__init__.py names no version"
    require_tools
    architecture=$(dpkg --print-architecture)
    case $architecture in
        amd64 | arm64) ;;
        *) die "there are no wheels of pydantic-core to take for $architecture: build for amd64 or arm64" ;;
    esac
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    source=$work/oomguard-$version
    assemble
    fetch_wheels
    (cd "$source" && dpkg-buildpackage --build=binary --no-sign >"$work/log" 2>&1) || {
        cat "$work/log" >&2
        die "dpkg-buildpackage failed"
    }
    mkdir -p "$output"
    cp "$work"/oomguard_*.deb "$output"
    printf '%s\n' "$output/oomguard_${version}_$architecture.deb"
}

usage() {
    sed -n '4s/^# *//p' "$0" >&2
    exit 2
}

require_tools() {
    missing=''
    command -v dpkg >/dev/null || die "this is not a Debian: use systemd/install.sh"
    command -v dh >/dev/null && dpkg-query --show --showformat '${db:Status-Status}' build-essential 2>/dev/null |
        grep -qx installed || missing='build-essential debhelper'
    /usr/bin/python3 -c 'import venv; from ensurepip import bootstrap' 2>/dev/null || missing="$missing python3-venv"
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # names, one or two
    install_packages $missing || exit
}

# The source tree as dpkg-buildpackage wants it: what is packaged, and debian/ beside it.
assemble() {
    mkdir "$source"
    for part in src systemd etc docs README.md CHANGELOG.md LICENSE; do
        cp -r "$tree/$part" "$source/"
    done
    find "$source" -name __pycache__ -prune -exec rm -rf {} +
    cp -r "$tree/systemd/debian" "$source/debian"
    cp "$tree/systemd/oomguard.service" "$source/debian/"
    for unit in "$source"/systemd/oomguard-*.service; do
        [ ! -e "$unit" ] || cp "$unit" "$source/debian/oomguard.${unit##*/}"
    done
    epoch=${SOURCE_DATE_EPOCH:-$(date -r "$tree/CHANGELOG.md" +%s)}
    cat >"$source/debian/changelog" <<END
oomguard ($version) unstable; urgency=medium

  * Release $version: see CHANGELOG.md beside this file.

 -- $(sed -n 's/^Maintainer: //p' "$source/debian/control")  $(date -u -R -d "@$epoch")
END
}

# Into debian/wheels, for every version of Python; oomguard itself is taken from the tree.
fetch_wheels() {
    /usr/bin/python3 -m venv "$work/venv"
    # shellcheck disable=SC2086  # versions
    sh "$tree/systemd/wheels.sh" "$work/venv/bin/python3" "$source/debian/wheels" $pythons
    rm "$source"/debian/wheels/oomguard-*.whl
}

main "$@"
