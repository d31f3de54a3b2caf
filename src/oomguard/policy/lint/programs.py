"""Programs whose name alone is a poor condition, and facts about them."""

# ruff: noqa: SIM905  # a list of quoted words is harder to read and to add to

import re
from collections.abc import Set

from oomguard.core.match import is_glob

INTERPRETERS = frozenset(
    "sh bash dash zsh fish ksh mksh csh tcsh busybox sudo su env "
    "python python2 python3 perl ruby irb node nodejs deno bun java php lua luajit Rscript R "
    "dotnet mono julia erl beam.smp guile tclsh wish awk gawk mawk pwsh".split()
)
"""Shells and interpreters: what they run has their name, unless it is a script."""

USERS_PROGRAMS = frozenset(
    "firefox firefox-esr chromium chromium-browser chrome google-chrome brave opera vivaldi epiphany "
    "thunderbird evolution Xorg Xwayland gnome-shell gnome-session-binary plasmashell kwin_x11 kwin_wayland "
    "ksmserver sway hyprland i3 xfce4-session xfwm4 cinnamon mate-session pulseaudio pipewire wireplumber "
    "tmux screen mosh-server vim nvim emacs nano code codium gnome-terminal-server konsole kitty alacritty "
    "foot xterm ssh ssh-agent gpg-agent rsync scp git make gcc cc1 cc1plus rustc cargo ld go npm "
    "slack discord zoom spotify steam signal-desktop teams obs gimp blender vlc mpv libreoffice soffice.bin "
    "code-server jupyter-lab jupyter-noteboo rstudio".split()
)
"""Programs that users start: oomguard refuses to protect their processes by name alone."""

HAND_ON = frozenset({"sshd"})
"""Programs that give users' programs the value they started with themselves (openssh, platform-listen.c)."""

KERNEL_THREADS = frozenset(
    "kthreadd kswapd0 kswapd1 khugepaged ksmd kcompactd0 kcompactd1 oom_reaper kauditd khungtaskd "
    "rcu_sched rcu_preempt kdevtmpfs writeback kblockd".split()
)
"""Some kernel threads, whose names no program has."""

ONLY_TITLED = frozenset(
    "nginx postgres sshd php-fpm avahi-daemon sendmail vsftpd dovecot proftpd pure-ftpd smtpd systemd".split()
)
"""Programs that change what `ps` shows as their command line, `nginx: worker process`, and not their name."""

SUPERVISORS = frozenset(
    "make gmake ninja samu scons cargo go bazel gcc g++ cc c++ ccache distccd npm yarn pnpm xargs parallel "
    "sbuild dpkg-buildpackage debuild rpmbuild mock makepkg emerge nix-daemon guix-daemon "
    "gitlab-runner buildkite-agent act_runner".split()
)
"""Programs that use little memory themselves: the programs they start use it."""

WORKERS = frozenset("cc1 cc1plus lto1 rustc as ld ld.lld mold collect2 compile link node".split())
"""What supervisors start. A policy that names one of these covers their children."""


def known(pattern: str, programs: Set[str]) -> str:
    """Return which of `programs` a pattern matches, "" if none: `python3.11` and `python*` match python."""
    if pattern in programs:
        return pattern
    literal = re.split(r"[*?[]", pattern, maxsplit=1)[0] if is_glob(pattern) else pattern
    stem = literal.rstrip("0123456789.")
    if stem not in programs or pattern[len(literal) :].strip("0123456789.-*?![]"):
        return ""
    return stem
