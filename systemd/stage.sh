#!/bin/sh
# Lay oomguard out in ROOT as a package installs it, for debian/rules and rpm/oomguard.spec; print all licenses.
#
#   stage.sh ROOT WHEELS [SITE...]
#
#   WHEELS   a folder of wheels: the Python packages that come with oomguard (wheels.sh)
#   SITE     a folder of the distribution's Python packages, for those that do not come with it
#
# $PYTHON, by default /usr/bin/python3, prints the JSON Schemas and must have all packages. systemd/files says which
# files go where, systemd/pythons which versions of Python the package is for.
set -eu
umask 022

tree=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=$1 wheels=$2
shift 2
python=${PYTHON:-/usr/bin/python3}
home=$root/usr/lib/oomguard
site=$home/lib/python3/site-packages
share=$root/usr/share/oomguard
export PYTHONDONTWRITEBYTECODE=1

# An environment of its own, as `python3 -m venv` makes one, but for any version of Python. pip cannot change what runs
# in it: not even with SITE does it contain /usr/local.
mkdir -p "$home/bin" "$site" "$root/usr/bin" "$root/etc/oomguard.d" "$share"
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$home/pyvenv.cfg"
ln -s /usr/bin/python3 "$home/bin/python3"
install -m 755 "$tree/systemd/launcher" "$home/bin/oomguard"
ln -s ../lib/oomguard/bin/oomguard "$root/usr/bin/oomguard"
while read -r versions; do
    for version in $versions; do ln -s python3 "$home/lib/python$version"; done
done <"$tree/systemd/pythons"
for wheel in "$wheels"/*.whl; do "$python" -m zipfile -e "$wheel" "$site"; done
cp -r "$tree/src/oomguard" "$site/"
find "$site" -name __pycache__ -prune -exec rm -r {} +
[ $# -eq 0 ] || printf '%s\n' "$@" >"$site/distribution.pth"
# rich formats source code and Markdown with these, and oomguard prints neither: 5 of 25 MB, and half of all files.
rm -rf "$site"/pygments* "$site"/markdown_it* "$site"/mdurl*

while read -r source target; do
    install -D -m 644 "$tree/$source" "$root/$target"
done <"$tree/systemd/files"
PYTHONPATH=$site "$python" -P -m oomguard schema >"$share/oomguard.schema.json"
PYTHONPATH=$site "$python" -P -m oomguard schema --cases >"$share/oomguard-cases.schema.json"

cat "$tree/LICENSE"
for info in "$site"/*.dist-info; do
    [ -e "$info" ] || continue
    printf '\n\n%s\n\n' "$(basename "$info" .dist-info | tr - ' ')"
    find "$info" \( -iname 'LICENSE*' -o -iname 'NOTICE*' \) -type f | LC_ALL=C sort | while read -r file; do
        tr -d '\r' <"$file"
    done
done
# METADATA stays: scanners read the versions from it.
find "$site" -path '*.dist-info/*' -not -name METADATA -not -type d -delete
find "$site" -type d -empty -delete
