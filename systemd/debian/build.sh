#!/bin/sh
# Build the Debian package.
#
#   build.sh [--bundle] [--output DIR]
#
#   --bundle       bring all Python packages, as requirements.txt locks them: for Debian 12, whose pydantic is too old
#   --output DIR   where the .deb goes (default: dist, in this tree)
#
# Without --bundle the package is for Debian 13 and later, and takes Debian's Python packages but for inotify-simple,
# which Debian lacks. With --bundle it contains compiled code for each version of Python in systemd/pythons, so it is
# for Debian 12 and later, and survives an upgrade of the distribution.
#
# Needs Debian or Ubuntu, and a network for Python packages (or PIP_NO_INDEX=1 and PIP_FIND_LINKS=DIR). As root, it
# installs missing build tools; otherwise, it prints their names. DEBFULLNAME and DEBEMAIL name the maintainer.
set -eu
umask 022

tree=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)

warn() { printf '%s\n' "build.sh: $*" >&2; }
die() {
    warn "$*"
    exit 1
}

# shellcheck source=/dev/null
. "$tree/systemd/packages.sh"
# shellcheck source=/dev/null
. "$tree/systemd/fetch.sh"

main() {
    output=$tree/dist bundle=no
    while [ $# -gt 0 ]; do
        case $1 in
            --output)
                [ $# -ge 2 ] || usage
                output=$2
                shift
                ;;
            --bundle) bundle=yes ;;
            *) usage ;;
        esac
        shift
    done
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$tree/src/oomguard/__init__.py")
    [ -n "$version" ] || die "src/oomguard/__init__.py names no version"
    require_tools
    architecture=all
    if [ "$bundle" = yes ]; then
        architecture=$(dpkg --print-architecture)
        case $architecture in
            amd64 | arm64) ;;
            *) die "there are no wheels of pydantic-core to take for $architecture: build for amd64 or arm64" ;;
        esac
    fi
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    source=$work/oomguard-$version
    assemble
    fetch_wheels "$bundle" "$source/debian/wheels" # without oomguard, which is taken from the tree
    # Build dependencies are checked above; the Python packages are in an environment of their own.
    (cd "$source" && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps >"$work/log" 2>&1) || {
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
    copy_tree "$source"
    mv "$source/systemd/debian" "$source/debian"
    epoch=${SOURCE_DATE_EPOCH:-$(date -r "$tree/CHANGELOG.md" +%s)}
    maintainer="${DEBFULLNAME:-The oomguard authors} <${DEBEMAIL-}>"
    cat >"$source/debian/changelog" <<END
oomguard ($version) unstable; urgency=medium

  * Release $version: see CHANGELOG.md beside this file.

 -- $maintainer  $(date -u -R -d "@$epoch")
END
    escaped=$(printf '%s' "$maintainer" | sed 's/[&/\]/\\&/g')
    sed -i "s/^Maintainer: .*/Maintainer: $escaped/" "$source/debian/control"
    if [ "$bundle" = yes ]; then
        sed -i -e 's/^Architecture: all$/Architecture: amd64 arm64/' -e '/^ python3-/d' "$source/debian/control"
        cat "$source/debian/lintian-overrides.bundle" >>"$source/debian/lintian-overrides"
    fi
}

main "$@"
