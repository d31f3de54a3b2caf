# For debian/build.sh and rpm/build.sh, with $tree and $work.

# Python imports from the working directory otherwise, where others may have put a venv.py.
export PYTHONSAFEPATH=1

# copy_tree DIR: copy what is packaged.
copy_tree() {
    mkdir "$1"
    for part in src systemd etc docs README.md CHANGELOG.md SECURITY.md LICENSE; do
        cp -r "$tree/$part" "$1/"
    done
    find "$1" -name __pycache__ -prune -exec rm -rf {} +
}

# fetch_wheels BUNDLE DIR: fill DIR with wheels of the packages that a package brings: all if BUNDLE is yes, otherwise
# those that distributions lack. $PYTHON becomes an interpreter for stage.sh.
fetch_wheels() {
    /usr/bin/python3 -m venv "$work/venv"
    export PYTHON="$work/venv/bin/python3"
    if [ "$1" = yes ]; then
        # shellcheck disable=SC2046  # versions
        sh "$tree/systemd/wheels.sh" "$PYTHON" "$2" $(cat "$tree/systemd/pythons")
    else
        sh "$tree/systemd/wheels.sh" "$PYTHON" "$work/all"
        "$PYTHON" -m pip --quiet --disable-pip-version-check install --no-index --find-links "$work/all" oomguard
        mkdir -p "$2"
        cp "$work"/all/inotify_simple-*.whl "$2"
    fi
    rm -f "$2"/oomguard-*.whl
}
