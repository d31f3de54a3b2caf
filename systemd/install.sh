#!/bin/sh
# Install oomguard on a host with systemd, or remove it.
#
#   install.sh [--wheels DIR] [--no-start]
#   install.sh --uninstall [--force]
#
#   --wheels DIR   install from the wheels in DIR, without network access; their hashes are not checked, because wheels.sh
#                  checked what it made them of
#   --no-start     install only; do not enable or start the service
#   --uninstall    stop the service, restore the original values, remove everything but the policy
#   --force        remove even if some values could not be restored; the ledger then stays in /run/oomguard
#
# Run as root from an unpacked release. Running it again repairs or upgrades. It replaces /etc/oomguard.yaml only if
# nobody edited it; /usr/share/oomguard/oomguard.yaml is the one of this release.
set -eu
umask 022

tree=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# Not python3 from PATH: the unit allows only this one.
python=/usr/bin/python3
home=/usr/lib/oomguard
command=/usr/bin/oomguard
share=/usr/share/oomguard
doc=/usr/share/doc/oomguard
policy=/etc/oomguard.yaml
drop_ins=/etc/oomguard.d
vendor=/usr/lib/oomguard.d
state=/run/oomguard
peaks=/var/lib/oomguard
unit=oomguard.service
exporter=oomguard-exporter.service # installed, but not started
manifest=$home/installed-files

say() { printf '%s\n' "oomguard: $*"; }
warn() { printf '%s\n' "oomguard: $*" >&2; }
die() {
    warn "$*"
    exit 1
}

main() {
    wheels='' start=yes action=install force=no
    while [ $# -gt 0 ]; do
        case $1 in
            --wheels)
                [ $# -ge 2 ] || usage
                wheels=$(CDPATH='' cd -- "$2" && pwd) || die "--wheels: no such folder: $2"
                shift
                ;;
            --no-start) start=no ;;
            --uninstall) action=uninstall ;;
            --force) force=yes ;;
            *) usage ;;
        esac
        shift
    done
    [ "$(id -u)" -eq 0 ] || die "must run as root"
    cd / # Python imports from the working directory, where others may have put a pip.py
    refuse_package
    "$action"
}

usage() {
    sed -n '4,5s/^# *//p' "$0" >&2
    exit 2
}

# A distribution package may own the same files.
refuse_package() {
    case $(dpkg-query --show --showformat '${db:Status-Status}' oomguard 2>/dev/null) in
        '' | not-installed | config-files) ;;
        *) die "the Debian package oomguard is installed; upgrade with apt, or remove the package first" ;; # or unpacked
    esac
    if command -v rpm >/dev/null && rpm --quiet --query oomguard; then
        die "the RPM package oomguard is installed; upgrade with dnf, or remove the package first"
    fi
    if [ -e "$command" ] && [ "$(readlink "$command")" != "$home/bin/oomguard" ]; then
        die "$command does not belong to this installer; move it away, then run this again"
    fi
}

# shellcheck source=/dev/null
. "$tree/systemd/packages.sh"

has_systemd() { [ -d /run/systemd/system ]; }

# Install

install() {
    is_upgrade=no
    [ ! -e "$manifest" ] || is_upgrade=yes
    require_python
    install_program
    install_policy # before the shipped one that it compares with is replaced
    install_files
    say "installed $("$command" --version)"
    if [ "$start" = yes ]; then
        start_service
    elif has_systemd && systemctl --quiet is-active "$unit"; then
        say "the old version runs on; to replace it, run: systemctl daemon-reload && systemctl restart oomguard"
    else
        say "not started; to start it, run: systemctl enable --now oomguard"
    fi
    next_steps
}

next_steps() {
    say "next steps:"
    cat <<END
    write your rules     $policy, or files of your own in $drop_ins; man oomguard.yaml
    check them           oomguard check --host && oomguard plan
                         a running service loads valid edits by itself
    see what it does     oomguard status; journalctl -u oomguard
    undo                 systemctl stop oomguard && oomguard restore
    uninstall            sh $(quoted "$tree/systemd/install.sh") --uninstall
END
}

# quoted WORD: print it as a shell reads it.
quoted() {
    case $1 in
        *[!A-Za-z0-9/._-]*) printf "'%s'\n" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf '%s\n' "$1" ;;
    esac
}

require_python() {
    if ! [ -x "$python" ] || ! has_venv; then
        install_packages python3 python3-venv || die "install python3 and python3-venv, then run this again"
    fi
    pythons=$(cat "$tree/systemd/pythons")
    case " $pythons " in
        *" $("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') "*) ;;
        *) die "$python is $("$python" --version); oomguard needs Python ${pythons%% *} to ${pythons##* }" ;;
    esac
    has_venv || die "$python cannot create an environment with pip; install python3-venv"
}

has_venv() { "$python" -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; }

# A virtual environment: oomguard and the distribution's Python packages cannot break each other.
install_program() {
    if ! "$home/bin/python3" -m pip --version >/dev/null 2>&1; then # also after a new Python version
        # All but the lists of what --uninstall removes, in case the new one cannot be installed.
        [ ! -d "$home" ] || find "$home" -mindepth 1 -maxdepth 1 ! -name "${manifest##*/}*" -exec rm -rf {} +
        "$python" -m venv "$home"
    fi
    if [ -z "$wheels" ]; then
        made=$(mktemp -d)
        trap 'rm -rf "$made"' EXIT
        trap 'exit 130' INT TERM
        sh "$tree/systemd/wheels.sh" "$home/bin/python3" "$made"
    fi
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$tree/src/oomguard/__init__.py") # not a folder's older wheel
    # --force-reinstall: pip skips a package with the same version number, even if its content differs.
    "$home/bin/python3" -m pip --quiet --disable-pip-version-check --no-input --no-cache-dir install \
        --root-user-action ignore --force-reinstall --no-index --find-links "${wheels:-$made}" "oomguard==$version"
    # Not pip's: it would look for modules beside itself, and load more of them.
    cp "$tree/systemd/launcher" "$home/bin/oomguard.new"
    chmod 755 "$home/bin/oomguard.new"
    mv "$home/bin/oomguard.new" "$home/bin/oomguard"
    ln -sfn "$home/bin/oomguard" "$command"
}

# Install everything in /usr but the program, and list it for --uninstall.
install_files() {
    : >"$manifest.new"
    while read -r source target; do
        case $target in # only Debian's zsh reads vendor-completions
            usr/share/zsh/*) [ -e /etc/debian_version ] || target=usr/share/zsh/site-functions/_oomguard ;;
        esac
        place "$tree/$source" "/$target"
    done <"$tree/systemd/files"
    "$command" schema >"$home/schema.new"
    place "$home/schema.new" "$share/oomguard.schema.json"
    "$command" schema --cases >"$home/schema.new"
    place "$home/schema.new" "$share/oomguard-cases.schema.json"
    rm -f "$home/schema.new"
    # The pages that help and log entries name. They link to each other and to etc/.
    (cd "$tree" && find README.md CHANGELOG.md SECURITY.md docs etc -type f) | while IFS= read -r page; do
        case $page in
            docs/man/* | etc/completions/*) ;;
            *) place "$tree/$page" "$doc/$page" ;;
        esac
    done
    # Remove files of an earlier release that this one lacks.
    if [ -e "$manifest" ]; then
        grep -vxFf "$manifest.new" "$manifest" | remove_listed
    fi
    mv "$manifest.new" "$manifest"
    label_files
    ! command -v journalctl >/dev/null || journalctl --update-catalog
}

# With SELinux, a new file has its folder's type, but a program needs that of programs.
label_files() {
    command -v restorecon >/dev/null || return 0
    printf '%s\n' "$home" "$command" "$policy" "$drop_ins" | cat - "$manifest" | restorecon -R -f - ||
        warn "restorecon failed, so SELinux may keep the service from starting"
}

# place SOURCE TARGET: install a file, and list it.
place() {
    mkdir -p "${2%/*}"
    cp "$1" "$2.new"
    chmod 644 "$2.new"
    mv "$2.new" "$2"
    printf '%s\n' "$2" >>"$manifest.new"
}

remove_listed() {
    while IFS= read -r file; do
        rm -f "$file"
    done
}

install_policy() {
    shipped=$share/oomguard.yaml
    if [ -L "$policy" ]; then # the administrator's, and it may lead to what is not mounted yet
        say "$policy is a link and is kept; the new one is $shipped"
    elif [ ! -e "$policy" ]; then
        copy_policy "$policy"
    elif cmp -s "$policy" "$shipped"; then
        cmp -s "$tree/etc/oomguard.yaml" "$policy" || copy_policy "$policy"
    elif ! cmp -s "$policy" "$tree/etc/oomguard.yaml"; then
        say "$policy was edited and is kept; the new one is $shipped"
    fi
    [ -L "$drop_ins" ] || mkdir -p "$drop_ins"
}

copy_policy() {
    mkdir -p "${1%/*}"
    cp "$tree/etc/oomguard.yaml" "$1.new"
    chmod 644 "$1.new"
    mv "$1.new" "$1"
}

start_service() {
    if ! has_systemd; then
        say "systemd is not running; to start oomguard, run: oomguard run"
        return
    fi
    systemctl daemon-reload
    if [ "$is_upgrade" = no ]; then
        systemctl --quiet enable "$unit"
    elif ! systemctl --quiet is-enabled "$unit" && ! systemctl --quiet is-active "$unit"; then
        say "not started, as it is disabled; to start it, run: systemctl enable --now oomguard"
        return
    fi
    status=0
    systemctl restart "$unit" || status=$?
    if systemctl --quiet is-active "$exporter"; then
        systemctl restart "$exporter" || warn "$exporter did not restart; see journalctl -u $exporter"
    fi
    say "journalctl -u oomguard:"
    journalctl --sync || true # fails where no journald runs, which changes nothing for the service
    journalctl --no-pager --output=cat "_SYSTEMD_INVOCATION_ID=$(invocation)" | sed -n '1,10s/^/    /p'
    [ "$status" -eq 0 ] || die "the service did not start; see journalctl -u oomguard"
}

invocation() { systemctl show --property=InvocationID --value "$unit"; }

# Uninstall

uninstall() {
    for name in "$exporter" "$unit"; do
        if has_systemd && [ -e "/usr/lib/systemd/system/$name" ]; then
            systemctl --quiet disable --now "$name"
        fi
    done
    # The daemon writes a ledger as it starts, and only that knows the original values. Without it, the program need not
    # work: after an upgrade of Python it does not. With it, it must, even if a failed upgrade left none.
    if [ ! -e "$state/ledger" ] || "$command" restore; then
        rm -rf "$state"
    elif [ "$force" = no ]; then
        die "some values could not be restored, so nothing was removed; to remove it anyway, use --force"
    else
        warn "some values could not be restored; their original values are in $state"
    fi
    for list in "$manifest" "$manifest.new"; do # the latter: of an installation that failed
        [ ! -e "$list" ] || remove_listed <"$list"
    done
    rmdir "$vendor" 2>/dev/null || true # others may have files there
    rm -rf "$home" "$share" "$doc" "$peaks"
    rm -f "$command"
    if has_systemd; then
        systemctl daemon-reload
        systemctl reset-failed "$unit" "$exporter" 2>/dev/null || true
    fi
    ! command -v journalctl >/dev/null || journalctl --update-catalog
    say "removed; the policy is kept: $policy, $drop_ins"
}

main "$@"
