#!/bin/sh
# Build the RPM package with rpmbuild.
#
#   build.sh [--bundle] [--output DIR]
#
#   --bundle       bring all Python packages, as requirements.txt locks them, for each version in systemd/pythons
#   --output DIR   where the .rpm goes (default: dist, in this tree)
#
# Without --bundle the package takes the distribution's Python packages, and is for the version of Python that it is
# built with. Needs rpmbuild, python3 with venv, and a network for Python packages (or PIP_NO_INDEX=1 and
# PIP_FIND_LINKS=DIR).
set -eu
umask 022

tree=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
spec=$tree/systemd/rpm/oomguard.spec

# shellcheck source=/dev/null
. "$tree/systemd/fetch.sh"

usage() {
    sed -n '4s/^# *//p' "$0" >&2
    exit 2
}

output=$tree/dist bundle=no
while [ $# -gt 0 ]; do
    case $1 in
        --bundle) bundle=yes ;;
        --output)
            [ $# -ge 2 ] || usage
            output=$2
            shift
            ;;
        *) usage ;;
    esac
    shift
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
version=$(sed -n 's/^Version: *//p' "$spec")
source=$work/oomguard-$version
copy_tree "$source"
fetch_wheels "$bundle" "$work/wheels"
mkdir "$work/SOURCES"
tar -czf "$work/SOURCES/oomguard-$version.tar.gz" -C "$work" "oomguard-$version"
tar -cf "$work/SOURCES/wheels.tar" -C "$work" wheels
[ "$bundle" = no ] || set -- --with bundle
# --nodeps: what it builds with is in an environment of its own.
rpmbuild -bb --nodeps --define "_topdir $work" --define "_rpmdir $work/built" "$@" "$spec" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
mkdir -p "$output"
for package in "$work"/built/*/*.rpm; do
    cp "$package" "$output"
    printf '%s\n' "$output/${package##*/}"
done
