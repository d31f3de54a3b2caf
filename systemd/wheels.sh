#!/bin/sh
# Makes wheels of oomguard and of everything it needs, exactly as requirements.txt locks it.
#
#   wheels.sh PYTHON DIR [VERSION...]
#
# PYTHON is an interpreter with pip. The wheels fit its version or, if given, each VERSION (3.11, 3.12, ...) on a
# Linux of this architecture. Takes a network, or what pip is configured with instead.
set -eu
umask 022

[ $# -ge 2 ] || {
    sed -n '4s/^# *//p' "$0" >&2
    exit 2
}
tree=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$1
mkdir -p "$2"
target=$(CDPATH='' cd -- "$2" && pwd)
shift 2

export PYTHONSAFEPATH=1 # else Python imports from the working directory, where others may have put a pip.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

pip() { "$python" -m pip --quiet --disable-pip-version-check --no-input --no-cache-dir "$@"; }

# What builds is locked, too, and is not installed: it is on the path of these commands only.
pip install --root-user-action ignore --require-hashes --target "$work/build" -r "$tree/requirements-build.txt"
export PYTHONPATH="$work/build"

# locked COMMAND ARGUMENT...: a command of pip's, with the packages of requirements.txt.
locked() {
    pip "$@" --no-deps --require-hashes --use-pep517 --no-build-isolation --requirement "$tree/requirements.txt"
}
set -- "$@" --
locked wheel --wheel-dir "$work/built"
[ "$1" != -- ] || cp "$work/built"/*.whl "$target"
while [ "$1" != -- ]; do
    machine=$(uname -m)
    locked download --implementation cp --python-version "$1" --platform "manylinux_2_28_$machine" \
        --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" --dest "$work/$1"
    cp "$work/$1"/*.whl "$target"
    for source in "$work/$1"/*.tar.gz; do # no wheel of it is published
        [ ! -e "$source" ] || cp "$work/built/$(basename "${source%-*}")"-*-none-any.whl "$target"
    done
    shift
done
pip wheel --no-deps --no-build-isolation --wheel-dir "$target" "$tree"
