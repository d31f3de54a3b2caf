"""Programs that a name says little about: many things run under it, or anybody runs it."""

# ruff: noqa: SIM905  # a list of quoted words is harder to read and to add to

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set

INTERPRETERS = frozenset(
    "sh bash dash zsh fish ksh mksh csh tcsh busybox sudo su env "
    "python python2 python3 perl ruby irb node nodejs deno bun java php php-fpm lua luajit Rscript R "
    "dotnet mono julia erl beam.smp guile tclsh wish awk gawk mawk pwsh".split()
)
"""Shells and interpreters: the kernel names what they run after them, unless it is a script."""

USERS_PROGRAMS = frozenset(
    "firefox firefox-esr chromium chromium-browser chrome google-chrome brave opera vivaldi epiphany "
    "thunderbird evolution Xorg Xwayland gnome-shell gnome-session-binary plasmashell kwin_x11 kwin_wayland "
    "ksmserver sway hyprland i3 xfce4-session xfwm4 cinnamon mate-session pulseaudio pipewire wireplumber "
    "tmux screen mosh-server vim nvim emacs nano code codium gnome-terminal-server konsole kitty alacritty "
    "foot xterm ssh ssh-agent gpg-agent rsync scp git make gcc cc1 cc1plus rustc cargo ld go npm "
    "slack discord zoom spotify steam signal-desktop teams obs gimp blender vlc mpv libreoffice soffice.bin "
    "code-server jupyter-lab jupyter-noteboo rstudio".split()
)
"""What people start themselves: their processes are refused protection by name alone."""

HAND_ON = frozenset({"sshd"})
"""What gives people's programs the value that it started with itself (openssh, platform-listen.c)."""

KERNEL_THREADS = frozenset(
    "kthreadd kswapd0 kswapd1 khugepaged ksmd kcompactd0 kcompactd1 oom_reaper kauditd khungtaskd "
    "rcu_sched rcu_preempt kdevtmpfs writeback kblockd".split()
)
"""Some of the kernel's own, whose names no program has."""


def known(pattern: str, programs: "Set[str]") -> str:
    """Return which of `programs` a pattern is for, "" if none: `python3`, `python3.11` and `python*` are."""
    literal = pattern[: min((pattern.find(wild) for wild in "*?[" if wild in pattern), default=len(pattern))]
    if pattern == literal and pattern in programs:
        return pattern
    stem = literal.rstrip("0123456789.")
    return stem if stem in programs else ""
