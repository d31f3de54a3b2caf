"""Reading the policy again, at the worst moment."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomguard.core.errors import OomguardError
from oomguard.daemon import policy_watch, reload
from oomguard.daemon.ceiling import Ceiling
from oomguard.daemon.loop import Loop
from oomguard.daemon.policy_watch import PolicyWatch
from oomguard.daemon.reload import Reloader
from oomguard.reconcile.policy_cache import PolicyCache

if TYPE_CHECKING:
    from oomguard.core.policy import Policy


def test_a_policy_that_was_read_during_a_pause_at_the_ceiling_is_adopted(tmp_path: Path) -> None:
    """Only timers run then, the deadline of the reading among them."""
    path = tmp_path / "policy.yaml"
    path.write_text("rules: [{name: some, oom_score_adj: 1}]\n")
    adopted: list[Policy] = []
    rejected: list[OomguardError] = []
    loop = Loop()
    reloader = Reloader(
        str(path),
        loop,
        adopt=adopted.append,
        reject=rejected.append,
        limited=print,
        cache=PolicyCache(str(tmp_path / "state")),
        observe=lambda: None,
    )
    reloader.reload()
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    loop.ceiling = Ceiling(time.monotonic(), time.process_time() - 60)
    loop.set("policy-child", time.monotonic())
    assert not loop.turn(busy=False), "it did not pause"
    reloader.close()
    assert not rejected
    assert [policy.rules[0].label for policy in adopted] == ["name=some"]


@pytest.mark.parametrize("at", ["to look", "to watch", "to start", "to read the answer", "to adopt it"])
def test_an_edit_that_there_is_no_memory_for_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Wherever memory runs out, the edit is not forgotten: nothing else would come back to it."""
    monkeypatch.setattr(reload, "RETRY_SECONDS", 0.01)
    path = tmp_path / "policy.yaml"
    path.write_text("rules: []\n")
    adopted: list[Policy] = []
    failures = iter([at])

    def once(where: str) -> bool:
        if where == at and next(failures, None):
            raise MemoryError
        return True

    def adopt(policy: "Policy") -> None:
        once("to adopt it")
        adopted.append(policy)

    def observe() -> None:
        once("to start")

    def renew(watch: PolicyWatch) -> None:
        once("to watch")
        renew_really(watch)

    loop, cache = Loop(), PolicyCache(str(tmp_path / "state"))
    store, has_changed, renew_really = cache.store, PolicyWatch.has_changed, PolicyWatch.renew
    reloader = Reloader(
        str(path), loop, adopt=adopt, reject=print, limited=print, cache=cache,
        observe=observe,
    )  # fmt: skip
    monkeypatch.setattr(cache, "store", lambda copy: store(copy) if once("to read the answer") else "")
    monkeypatch.setattr(PolicyWatch, "has_changed", lambda it: once("to look") and has_changed(it))
    monkeypatch.setattr(PolicyWatch, "renew", renew)
    monkeypatch.setattr(reload, "LOOK_SECONDS", 0.01)
    path.write_text("rules: [{name: some, oom_score_adj: 1}]\n")
    deadline, shortages = time.monotonic() + 30, 0
    while not adopted and time.monotonic() < deadline:
        try:
            loop.turn(busy=False)
        except MemoryError:  # as the service takes it
            shortages += 1
    reloader.close()
    assert shortages == 1
    assert [policy.rules[0].label for policy in adopted] == ["name=some"]


def test_a_start_for_which_there_is_no_process_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sentence: the user may have reached a limit (ulimit -u)."""
    path = tmp_path / "policy.yaml"
    path.write_text("rules: []\n")

    def fails(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "posix_spawn", fails)
    reloader = Reloader(
        str(path), Loop(), adopt=print, reject=print, limited=print,
        cache=PolicyCache(str(tmp_path / "state")), observe=lambda: None,
    )  # fmt: skip
    with pytest.raises(OomguardError, match=r"^cannot start a process to read the policy: Resource"):
        reloader.first()
    reloader.close()


_HANGS = """\
import os, signal, sys
from oomguard.daemon.__main__ import main
spawn = os.posix_spawn
def hang(*arguments, **options):
    pid = spawn(*arguments, **options)
    os.kill(pid, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGTERM)
    return pid
os.posix_spawn = hang
code = main()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    sys.exit(code)
sys.exit("the reader of the policy is still there")
"""


def test_a_stop_does_not_wait_for_the_first_reading_of_the_policy(tmp_path: Path) -> None:
    """A reader that hangs has two minutes. It ends with the daemon, which has not failed."""
    path = tmp_path / "policy.yaml"
    path.write_text("rules: []\n")
    command = [sys.executable, "-c", _HANGS, str(path), str(tmp_path / "state"), "/proc"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "oomguard: stopped before the policy was read\n")


def test_edits_are_noticed_again_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs of this user had used up all inotify instances; nobody edits the policy meanwhile."""
    path = tmp_path / "policy.yaml"
    path.write_text("rules: []\n")
    adopted: list[Policy] = []
    limits: dict[str, str] = {}

    def full() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    loop = Loop()
    with monkeypatch.context() as broken:
        broken.setattr(policy_watch, "Inotify", full)
        reloader = Reloader(
            str(path), loop, adopt=adopted.append, reject=print, limited=limits.__setitem__,
            cache=PolicyCache(str(tmp_path / "state")), observe=lambda: None,
        )  # fmt: skip
        reloader._reload_if_changed(time.monotonic())
        assert "max_user_instances" in limits["policy edits"]
        assert loop.is_set("reload")
    reloader._reload_if_changed(time.monotonic())
    assert limits["policy edits"] == ""
    assert not loop.is_set("reload")
    path.write_text("rules: [{name: some, oom_score_adj: 1}]\n")
    deadline = time.monotonic() + 30
    while not adopted and time.monotonic() < deadline:
        loop.turn(busy=False)
    reloader.close()
    assert [policy.rules[0].label for policy in adopted] == ["name=some"]


def test_users_who_change_all_the_time_delay_no_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can do that (chsh). It ends no reading, and leads to one in ten seconds."""
    users, path = tmp_path / "users" / "passwd", tmp_path / "policy.yaml"
    users.parent.mkdir()
    for module in ("daemon.policy_watch", "reconcile.policy_cache"):
        monkeypatch.setattr(f"oomguard.{module}.USER_FILES", (str(users),))
    monkeypatch.setattr(reload, "LONGEST_SETTLE_SECONDS", 0.01)
    path.write_text("rules: [{name: some, user: root, oom_score_adj: 1}]\n")
    adopted: list[Policy] = []
    loop = Loop()
    reloader = Reloader(
        str(path), loop, adopt=adopted.append, reject=print, limited=print,
        cache=PolicyCache(str(tmp_path / "state")), observe=lambda: None,
    )  # fmt: skip
    reloader.first()
    path.write_text("rules: [{name: other, user: root, oom_score_adj: 1}]\n")
    while reloader._child is None:
        loop.turn(busy=False)
    child = reloader._child
    while not adopted:
        users.write_text("")
        loop.turn(busy=True)
        assert adopted or reloader._child is child, "it was ended"
    assert [policy.rules[0].label for policy in adopted] == ["name=other user=root"]
    reloader._reload_if_changed(time.monotonic())
    for later, is_read in ((1, False), (reload.USERS_SECONDS, True)):
        while reloader._child is not None:
            loop.turn(busy=False)
        users.write_text("")
        reloader._reload_if_changed(time.monotonic() + later)
        assert (reloader._child is not None) == is_read
    reloader.close()


def test_users_who_change_all_the_time_do_not_make_it_start_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each adoption logs again what is refused, and forgives what anybody spent."""
    users, path = tmp_path / "users" / "passwd", tmp_path / "policy.yaml"
    users.parent.mkdir()
    users.write_text("")
    for module in ("daemon.policy_watch", "reconcile.policy_cache"):
        monkeypatch.setattr(f"oomguard.{module}.USER_FILES", (str(users),))
    path.write_text("rules: [{name: some, user: root, oom_score_adj: 1}]\n")
    adopted: list[Policy] = []
    rejected: list[OomguardError] = []
    loop = Loop()
    reloader = Reloader(
        str(path), loop, adopt=adopted.append, reject=rejected.append, limited=print,
        cache=PolicyCache(str(tmp_path / "state")), observe=lambda: None,
    )  # fmt: skip
    now = time.monotonic()

    def read() -> None:
        while reloader._child is not None:
            loop.turn(busy=False)

    def change_users() -> None:
        nonlocal now
        users.write_text(f"{now}")
        now += 1000
        reloader._reload_if_changed(now)
        assert reloader._child is not None
        read()

    first = reloader.first()
    change_users()
    assert not adopted
    reloader.reload()  # an administrator's is adopted in any case, and kept only once
    read()
    change_users()
    assert [policy is first for policy in adopted] == [True]
    path.write_text("rulez: []\n")
    reloader.reload()
    read()
    change_users()
    assert len(rejected) == 1
    path.write_text("rules: [{name: other, user: root, oom_score_adj: 1}]\n")
    change_users()
    assert [policy.rules[0].label for policy in adopted[1:]] == ["name=other user=root"]
    change_users()
    pause = reload.USERS_SHARE * reloader._took_seconds
    monkeypatch.setattr(reload, "USERS_SECONDS", 0.0)
    users.write_text("later")
    reloader._reload_if_changed(now + pause / 2)
    assert reloader._child is None
    reloader._reload_if_changed(now + 2 * pause)
    assert reloader._child is not None
    reloader.close()
