"""A policy that did not change is not read again, and one that may have is."""

import json
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomguard.core.host import Host as Facts
from oomguard.core.policy import Layer, layers
from oomguard.daemon.loop import Loop
from oomguard.daemon.reload import Reloader
from oomguard.diagnose.this_host import ThisHost
from oomguard.reconcile.policy_cache import Copy, PolicyCache

if TYPE_CHECKING:
    from oomguard.core.policy import Policy

LATER_NS = 60_000_000_000
"""So much later, whatever was written now is old."""


class Host:
    """A policy, and the state folder of a daemon that reads it."""

    def __init__(self, folder: Path) -> None:
        self.policy = folder / "etc" / "oomguard.yaml"
        self.drop_ins = folder / "etc" / "oomguard.d"
        self.drop_ins.mkdir(parents=True)
        self.policy.write_text("rules: [{name: some, oom_score_adj: 1}]\n")
        self.state = folder / "state"
        self.limits: list[str] = []
        self.limited: dict[str, str] = {}
        """What works less well now, by what it is about."""
        self.adopted: list[Policy] = []
        self.loop = Loop()
        self.cache = PolicyCache(str(self.state))
        self.facts = Facts(16 << 20)

    def key(self, *, later_ns: int = LATER_NS) -> str:
        """Return the key of the policy as it is."""
        return self.cache.key(layers(str(self.policy)), time.time_ns() + later_ns)

    def _note(self, about: str, limit: str) -> None:
        self.limited[about] = limit
        if limit:
            self.limits.append(limit)

    def reloader(self) -> Reloader:
        """Return what a daemon reads its policy with."""
        return Reloader(
            str(self.policy),
            self.loop,
            adopt=self.adopted.append,
            reject=lambda error: self.limits.append(error.message),
            limited=self._note,
            cache=self.cache,
            observe=lambda: self.facts,
        )

    def start(self) -> list[str]:
        """Return the rules of the policy that a daemon starts with."""
        reloader = self.reloader()
        policy = reloader.first()
        reloader.close()
        return [rule.label for rule in policy.rules]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host whose files are old enough to be told from an edit."""
    made = Host(tmp_path)
    time.sleep(0.12)  # their change time cannot be set
    yield made


def swap_rule(host: Host) -> None:
    """Make the cache say something else than the policy, so that it shows which one was read."""
    whole = zlib.decompress((host.state / "compiled-policy").read_bytes())
    key, body = whole.split(b"\n", 1)
    copy = Copy(key.decode())
    copy.add(body.replace(b"some", b"kept"))
    host.cache.store(copy)


def test_the_second_start_reads_no_yaml(host: Host) -> None:
    """It takes what the first one kept."""
    assert host.start() == ["name=some"]
    swap_rule(host)
    assert host.start() == ["name=kept"]
    assert not host.limits


def test_a_verb_takes_what_the_daemon_kept_and_reads_what_it_would_read(host: Host) -> None:
    """So they agree, and a verb on a host with a daemon does not wait for pydantic."""
    policy = str(host.policy)

    def labels(path: str = policy) -> list[str]:
        return [rule.label for rule in ThisHost(str(host.state)).load(path).rules]

    assert labels() == ["name=some"]
    host.start()
    swap_rule(host)
    assert labels() == ["name=kept"]
    assert labels(os.path.relpath(policy)) == ["name=some"]  # messages have the path as it was said
    edit(host)
    assert labels() == ["name=some"]


def edit(host: Host) -> None:
    """Change the value, with the size and the time of the file as they were."""
    status = host.policy.stat()
    host.policy.write_text("rules: [{name: some, oom_score_adj: 2}]\n")
    os.utime(host.policy, ns=(status.st_atime_ns, status.st_mtime_ns))


def add_drop_in(host: Host) -> None:
    """Add a file."""
    (host.drop_ins / "a.yaml").write_text("rules: []\n")


def add_ignored(host: Host) -> None:
    """Add a file of which a warning tells."""
    (host.drop_ins / "a.yml").write_text("rules: []\n")


def open_folder(host: Host) -> None:
    """Let others write to the folder, of which a warning tells, too."""
    host.policy.parent.chmod(0o777)


@pytest.mark.parametrize("change", [edit, add_drop_in, add_ignored, open_folder])
def test_whatever_may_change_the_answer_changes_the_key(host: Host, change: Callable[[Host], None]) -> None:
    """So the policy is read again."""
    before = host.key()
    assert host.key() == before
    change(host)
    assert host.key() != before


def test_every_layer_is_in_the_key(host: Host, tmp_path: Path) -> None:
    """Its files, its folder, which may hold what is warned of, and those above it."""
    lower = tmp_path / "run" / "oomguard.d"
    lower.mkdir(parents=True)
    wanted = (*layers(str(host.policy)), Layer(str(lower)))

    def key() -> str:
        return host.cache.key(wanted, time.time_ns() + LATER_NS)

    keys = [key()]
    (lower / "10.yaml").symlink_to("/dev/null")
    keys.append(key())
    (lower / "README.yml").write_text("")
    keys.append(key())
    lower.parent.chmod(0o777)
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_a_mask_is_the_same_whichever_null_device_it_leads_to(host: Host, tmp_path: Path) -> None:
    """With PrivateDevices= each start of the service has a new /dev/null."""
    null, keys = tmp_path / "null", list[str]()
    (host.drop_ins / "a.yaml").symlink_to(null)
    for number in (3, 3, 5):
        try:
            os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, number))
        except PermissionError:
            pytest.skip("no device can be made here, as without CAP_MKNOD")
        os.utime(null, ns=(len(keys), len(keys)))
        keys.append(host.key())
        null.unlink()
    assert keys[0] == keys[1] != keys[2]  # /dev/zero is no mask


def test_the_key_tells_who_users_are(host: Host) -> None:
    """By the files that say so, as far as they are there."""
    files = {path for path, _ in json.loads(host.key())[2]}
    assert {"/etc/passwd", "/etc/subuid", "/etc/login.defs"} <= files


def test_a_file_that_has_just_changed_has_no_key(host: Host) -> None:
    """It may change again without a difference that shows."""
    host.policy.write_text("rules: []\n")
    assert host.key(later_ns=0) == ""


def _flipped(raw: bytes, place: int) -> bytes:
    changed = bytearray(raw)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-3],
        lambda raw: _flipped(raw, -40),
        lambda raw: _flipped(raw, -1),
        lambda _: b"",
        lambda _: b"\0" * 64,
    ],
    ids=["cut", "flipped", "wrong checksum", "empty", "zeros"],
)
def test_a_damaged_cache_is_as_good_as_none(host: Host, damage: Callable[[bytes], bytes]) -> None:
    """The policy is read, the file is replaced, and it is said."""
    host.start()
    path = host.state / "compiled-policy"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert host.start() == ["name=some"]
    assert host.limits == [f"{path} is ignored: it is damaged"]
    assert path.read_bytes() == whole


def test_a_cache_that_others_may_have_written_is_not_used(host: Host) -> None:
    """It decides which process is killed."""
    host.start()
    swap_rule(host)
    host.state.chmod(0o777)
    assert host.start() == ["name=some"]
    assert f"{host.state}/compiled-policy is ignored: others may write to its folder" in host.limits


def test_a_cache_that_cannot_be_written_is_written_after_a_later_pass(host: Host) -> None:
    """The disk was full for a while; until then it is said."""
    host.state.write_text("")  # where its folder should be
    reloader = host.reloader()
    reloader.first()
    reloader.check_edits(time.monotonic())
    assert "Not a directory" in host.limited["policy cache"]
    host.state.unlink()
    reloader.check_edits(time.monotonic())
    reloader.close()
    assert host.limited["policy cache"] == ""
    swap_rule(host)
    assert host.start() == ["name=kept"]


def test_a_policy_of_users_from_elsewhere_is_always_read(host: Host) -> None:
    """Of a directory of users (LDAP) nothing shows when it changed."""
    host.policy.write_text("rules: [{name: some, user: no-such-user, oom_score_adj: 1}]\n")
    time.sleep(0.12)
    host.start()
    assert not (host.state / "compiled-policy").exists()


def test_a_user_of_this_host_is_no_reason_to_read_it(host: Host) -> None:
    """/etc/passwd has it."""
    host.policy.write_text("rules: [{name: some, user: root, oom_score_adj: 1}]\n")
    time.sleep(0.12)
    host.start()
    assert (host.state / "compiled-policy").exists()


def test_a_policy_whose_folder_was_replaced_is_read_after_the_next_pass(host: Host) -> None:
    """No event tells of that: it happened in the folder above. Later edits are noticed again."""
    reloader = host.reloader()
    reloader.first()
    folder = host.policy.parent
    folder.rename(folder.with_name("old"))
    folder.mkdir()

    def edit(name: str) -> None:
        host.policy.write_text(f"rules: [{{name: {name}, oom_score_adj: 1}}]\n")

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 30
        while len(host.adopted) < count and time.monotonic() < deadline:
            host.loop.turn(busy=False)

    edit("second")
    reloader.check_edits(time.monotonic())
    wait_for(1)
    edit("third")
    wait_for(2)
    reloader.close()
    assert [policy.rules[0].label for policy in host.adopted] == ["name=second", "name=third"]


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_user_who_is_added_later_matches_soon(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_cached: bool
) -> None:
    """A policy is often older than the package that adds the user; a verb knows that user at once."""
    users = tmp_path / "passwd"
    monkeypatch.setattr("oomguard.daemon.policy_watch.USER_FILES", (str(users),))
    host.policy.write_text("rules: [{name: some, user: root, oom_score_adj: 1}]\n")
    if is_cached:
        time.sleep(0.12)
        host.start()
    reloader = host.reloader()
    policy = reloader.first()
    reloader._answer = policy._replace(rules=())  # as it was without that user
    users.write_text("")
    deadline = time.monotonic() + 30
    while not host.adopted and time.monotonic() < deadline:
        host.loop.turn(busy=False)
    reloader.close()
    assert host.adopted == [policy]


def test_an_unchanged_policy_is_adopted_again_without_a_reader(host: Host) -> None:
    """At once: no process is started."""
    reloader = host.reloader()
    policy = reloader.first()
    reloader.reload()
    assert host.adopted == [policy]
    reloader.close()


def test_an_edited_policy_is_read_by_a_reload(host: Host) -> None:
    """Also where size and time are as they were."""
    reloader = host.reloader()
    reloader.first()
    edit(host)
    reloader.reload()
    while not host.adopted:
        host.loop.turn(busy=False)
    reloader.close()
    assert [rule.terms.value.number for rule in host.adopted[0].rules] == [2]


OF_RAM = "vm: {min_free_kbytes: 1%}\nrules: [{name: some, oom_score_adj: 1}]\n"


def test_a_policy_that_depends_on_ram_is_read_again_on_a_host_with_more(host: Host) -> None:
    """Swap, which it does not name, is no reason."""
    host.policy.write_text(OF_RAM)
    time.sleep(0.12)
    host.start()
    swap_rule(host)
    host.facts = Facts(16 << 20, swap_kib=1 << 20)
    assert host.start() == ["name=kept"]
    host.facts = Facts(32 << 20)
    assert host.start() == ["name=some"]


def test_a_policy_without_facts_outlives_any_change_of_the_host(host: Host) -> None:
    """As most policies are."""
    host.start()
    swap_rule(host)
    host.facts = Facts(1 << 20)
    assert host.start() == ["name=kept"]


def test_a_pass_that_finds_more_ram_has_the_policy_read_again_once(host: Host) -> None:
    """Memory was added while the daemon ran; the file is as it was."""
    host.policy.write_text(OF_RAM)
    time.sleep(0.12)
    reloader = host.reloader()
    policy = reloader.first()
    reloader.follow_host(policy, 0.0)
    assert not host.adopted
    host.facts = Facts(32 << 20)
    reloader.follow_host(policy, 0.0)
    while not host.adopted:
        host.loop.turn(busy=False)
    (adopted,) = host.adopted
    assert [one.value for one in (*policy.sysctls, *adopted.sysctls)] == [167772, 335544]
    reloader.follow_host(adopted, 0.0)
    assert host.adopted == [adopted]
    reloader.close()


def test_a_balloon_has_the_policy_read_every_ten_minutes_and_once_it_moved_much(host: Host) -> None:
    """The first change counts at once, as of memory that is added, and none is missed for good."""
    host.policy.write_text(OF_RAM)
    time.sleep(0.12)
    reloader = host.reloader()
    policy = reloader.first()
    size, expected = 16 << 20, []
    for minute in range(25):
        size += 32 << 20 if minute == 15 else -4096
        host.facts = Facts(size)
        reloader.follow_host(policy, minute * 60.0)
        if minute in (0, 10, 15):
            expected.append(size // 100)
            while len(host.adopted) < len(expected):
                host.loop.turn(busy=False)
    reloader.close()
    assert [one.sysctls[0].value for one in host.adopted] == expected


def test_a_broken_policy_is_read_once_for_a_changed_host(host: Host) -> None:
    """Each further pass would only repeat the error."""
    host.policy.write_text(OF_RAM)
    time.sleep(0.12)
    reloader = host.reloader()
    policy = reloader.first()
    host.policy.write_text("vm: {min_free_kbytes: 1000%}")
    host.facts = Facts(32 << 20)
    reloader.follow_host(policy, 0.0)
    while not host.limits:
        host.loop.turn(busy=False)
    reloader.follow_host(policy, 0.0)
    assert len(host.limits) == 1
    reloader.close()
