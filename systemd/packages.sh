# For scripts that need packages of the distribution, such as systemd/install.sh and .ci/setup.

# install_packages NAME...: install Debian packages. If it cannot, print the command and return 1.
install_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "${0##*/}: missing: $*; on Debian, run as root: apt-get install $*" >&2
        return 1
    fi
    echo "${0##*/}: installing $*" >&2
    # A minimal image has no package lists. Continue if one repository fails: the installation may still succeed.
    apt-get -qq update || true
    # With </dev/null, apt does not read the rest of a script that comes from standard input.
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" </dev/null >/dev/null || {
        echo "${0##*/}: apt-get could not install $*" >&2
        return 1
    }
}
