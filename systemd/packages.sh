# Sourced by what needs packages of the distribution: systemd/install.sh, .ci/setup and their kin.

# install_packages NAME...: installs Debian packages. Returns 1, and prints the command for it, where it cannot.
install_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "${0##*/}: missing: $*; on Debian, as root: apt-get install $*" >&2
        return 1
    fi
    echo "${0##*/}: installing $*" >&2
    # A minimal image has no package lists. One dead repository must not be the end of it: the install decides.
    apt-get -qq update || true
    # dpkg asks nothing and apt reads nothing, or what comes after this in a script on standard input would be eaten.
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" </dev/null >/dev/null || {
        echo "${0##*/}: apt-get could not install $*" >&2
        return 1
    }
}
