"""The proc connector on the real kernel. Skipped, with the reason, where it gives no events."""

import errno
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.kernel import connector as module
from oomguard.kernel.connector import Connector, ConnectorUnavailableError
from oomguard.kernel.event_filter import EXEC, GIVE, NONE, assembled, attach


@pytest.fixture
def connector() -> Iterator[Connector]:
    """Return a proven subscription."""
    try:
        opened = Connector()
    except ConnectorUnavailableError as reason:
        pytest.skip(str(reason))
    yield opened
    opened.close()


def hear(connector: Connector, wanted: Callable[[set[int]], bool]) -> set[int]:
    """Receive until `wanted` holds of the pids heard of, for five seconds at most."""
    heard: set[int] = set()
    for _ in range(50):
        if wanted(heard):
            break
        select.select([connector], [], [], 0.1)
        connector.receive(heard, limit=1000)
    return heard


def test_an_exec_is_heard(connector: Connector) -> None:
    """The pid is that of the program that was started."""
    with subprocess.Popen(["true"]) as process:
        assert process.pid in hear(connector, lambda heard: process.pid in heard)


def test_a_rename_and_a_change_of_user_are_heard(connector: Connector) -> None:
    """Either may change which rule holds a process that runs no other program."""
    code = "import os; input(); open('/proc/self/comm', 'w').write('renamed'); input(); {}"
    change = "os.setresuid(1, 1, 1)" if os.geteuid() == 0 else "open('/proc/self/comm', 'w').write('again')"
    command = [sys.executable, "-c", code.format(change)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        hear(connector, lambda heard: process.pid in heard)
        for _ in range(2):
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.pid in hear(connector, lambda heard: process.pid in heard)


def test_threads_are_not_heard(connector: Connector) -> None:
    """Neither their start nor their end nor a name of their own wakes anyone."""
    connector.receive(set(), limit=10_000)

    def name_itself() -> None:
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
            file.write("a-thread")

    for _ in range(20):
        thread = threading.Thread(target=name_itself)
        thread.start()
        thread.join()
    heard: set[int] = set()
    connector.receive(heard, limit=10_000)
    assert os.getpid() not in heard


def family(connector: Connector) -> list[tuple[int, int]]:
    """Return the forks since the last call, as pairs of parent and child."""
    found: list[tuple[int, int]] = []
    assert not connector.forks(lambda parent, child, _: found.append((parent, child)))
    return found


def test_forks_are_told_in_order_with_their_time(connector: Connector) -> None:
    """Also of those that are gone by then, and never of threads."""
    code = (
        "import os, threading; threading.Thread(target=lambda: None).start()\n"
        "child = os.fork()\n"
        "os.waitpid(child, 0) if child else os.fork()"
    )
    before = time.monotonic_ns()
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        process.wait()
    found: list[tuple[int, int, int]] = []
    assert not connector.forks(lambda *fork: found.append(fork))
    ours = [fork for fork in found if fork[0] == os.getpid()]
    first = [fork for fork in found if fork[0] == process.pid]
    second = [fork for fork in found if fork[0] in {child for _, child, _ in first}]
    assert [len(ours), len(first), len(second)] == [1, 1, 1]
    assert ours[0][1] == process.pid
    assert before < ours[0][2] < first[0][2] < second[0][2] < time.monotonic_ns()


def test_only_forks_of_watched_parents_wake_the_daemon(connector: Connector) -> None:
    """These arrive on the socket that is waited on."""
    with subprocess.Popen(["true"]) as process:
        hear(connector, lambda heard: process.pid in heard)
    connector.has_forks = False
    assert connector.watch_parents(frozenset({os.getpid(), 1, 2**22 - 1}))
    assert not connector.watch_parents(frozenset({1, os.getpid(), 2**22 - 1}))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    select.select([connector], [], [], 5.0)
    heard: set[int] = set()
    connector.receive(heard, limit=1000)
    assert connector.has_forks
    assert os.getpid() not in heard
    assert (os.getpid(), child) in family(connector)
    assert not connector.has_forks


def test_lost_forks_are_told(connector: Connector) -> None:
    """Then nothing is known of who came from whom."""
    connector._forks.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    for _ in range(50):
        subprocess.run(["true"], check=True)
    assert connector.forks(lambda *_: None)
    assert not connector.forks(lambda *_: None)


def test_an_exec_by_a_thread_is_heard_as_its_process(connector: Connector) -> None:
    """The kernel gives the thread the leader's pid before it tells."""
    code = (
        "import os, threading; threading.Thread(target=os.execv, args=('/bin/sleep', ['sleep', '5'])).start()"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        seen = 0
        for _ in range(2):  # first the interpreter, then what its thread runs
            seen += process.pid in hear(connector, lambda heard: process.pid in heard)
        process.kill()
    assert seen == 2


def test_a_loss_is_told_once_and_then_events_flow_again(connector: Connector) -> None:
    """It is told when the queue is empty, since the kernel adds nothing to it before that."""
    connector._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    for _ in range(50):
        subprocess.run(["true"], check=True)
    assert not connector.receive(set(), limit=1)
    assert connector.receive(set(), limit=1000)
    assert not connector.receive(set(), limit=1000)
    with subprocess.Popen(["true"]) as process:
        assert process.pid in hear(connector, lambda heard: process.pid in heard)


OWN = 2**22
EMPTY, LOSS = BlockingIOError(), OSError(errno.ENOBUFS, "No buffer space available")


class Script:
    """A socket that gives what is written down, and what comes after it for ever."""

    def __init__(self, *parts: bytes | OSError, then: bytes | OSError = EMPTY) -> None:
        self.parts = list(parts)
        self.then = then

    def recv_into(self, buffer: bytearray) -> int:
        """Give the next part."""
        part = self.parts.pop(0) if self.parts else self.then
        if isinstance(part, OSError):
            raise part
        buffer[: len(part)] = part
        return len(part)


def scripted(script: Script) -> Connector:
    """Return a connector that hears the script; it needs no kernel."""
    made = Connector.__new__(Connector)
    made._buffer, made._fork_buffer, made._left = bytearray(4096), bytearray(4096), 0
    made._behind, made.changed = 0, []
    made._own, made._is_asked, made.answer = OWN, False, None
    made.has_forks = made.requested = False
    made._socket = script  # type: ignore[assignment]  # all that receive() uses of one
    return made


def event(pid: int, what: int = EXEC) -> bytes:
    """Return a message as drivers/connector/cn_proc.c makes it."""
    return bytes(36) + struct.pack("=IIQII16x", what, 0, 0, pid, pid)


def test_an_acknowledgement_is_about_nobody() -> None:
    """It is sent to all who listen whenever one more does; where a pid would be it has an error."""
    heard: set[int] = set()
    assert not scripted(Script(event(1, NONE), event(2))).receive(heard, limit=10)
    assert heard == {2}


def test_no_storm_keeps_a_call_from_returning() -> None:
    """A process that renames itself in a loop sends as fast as we read, losses or not."""
    connector = scripted(Script(LOSS, then=event(1)))
    answers = [connector.receive(set(), limit=1024) for _ in range(40)]
    assert answers.count(True) == 1
    assert answers.index(True) * 1024 >= 2 * module.RECEIVE_BUFFER // 832, "told before the queue was read"


def test_a_loss_after_a_loss_is_not_swallowed() -> None:
    """The queue can be empty for a moment between two losses without our seeing it."""
    turn: list[bytes | OSError] = [LOSS, event(1), event(1), event(1)]
    connector = scripted(Script(*turn * 5))
    answers = [connector.receive(set(), limit=4) for _ in range(6)]
    assert answers == [False, True, True, True, True, True]


def test_what_is_not_an_event_counts_as_a_loss() -> None:
    """A message of a shape this program does not know may be about anything."""
    heard: set[int] = set()
    assert scripted(Script(event(1), event(2)[:12], event(3))).receive(heard, limit=10)
    assert heard == {1, 3}


@given(st.lists(st.binary(max_size=200) | st.binary(min_size=76, max_size=76) | st.just(LOSS)))
def test_no_message_is_fatal(parts: list[bytes | OSError]) -> None:
    """Whatever the kernel sends: what is not understood is told as a loss, and nothing is raised."""
    heard: set[int] = set()
    lost = scripted(Script(*parts)).receive(heard, limit=len(parts) + 1)
    assert lost == any(isinstance(part, OSError) or len(part) != 76 for part in parts)
    assert len(heard) <= len(parts)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a namespace takes root")
@pytest.mark.parametrize(
    ("namespace", "reason"),
    [(["--net"], "network namespace"), (["--pid", "--fork", "--mount-proc"], "pid namespace")],
)
def test_inside_a_namespace_the_reason_is_told(
    connector: Connector, namespace: list[str], reason: str
) -> None:
    """There the kernel is silent or refuses; either way the daemon must not believe that it hears."""
    code = (
        "from oomguard.kernel.connector import *\n"
        "try: Connector()\n"
        "except ConnectorUnavailableError as error: print(error)\n"
    )
    command = ["unshare", *namespace, sys.executable, "-W", "always", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare failed" in result.stderr:
        pytest.skip(result.stderr)
    assert reason in result.stdout
    assert "ResourceWarning" not in result.stderr, "the socket was left open"


@pytest.mark.parametrize("version", [(6, 1), (6, 6)])
def test_forks_are_asked_for_alone_where_the_kernel_can(
    connector: Connector, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]
) -> None:
    """Before 6.6 the subscription is to everything, and the socket's filter sorts out."""
    monkeypatch.setattr(module, "_kernel_version", lambda: version)
    other = Connector()
    try:
        with subprocess.Popen(["true"]) as process:
            assert process.pid in hear(other, lambda heard: process.pid in heard)
        assert process.pid in {child for _, child in family(other)}
    finally:
        other.close()


def answer(connector: Connector) -> bool | None:
    """Return whether an event of our own arrives."""
    connector.probe()
    heard: set[int] = set()
    connector.receive(heard, limit=10_000)
    assert os.getpid() not in heard
    return connector.answer


def test_events_prove_that_they_flow(connector: Connector) -> None:
    """By a rename to the same name; the answer is there at once, and this process is not looked at for it."""
    with open("/proc/self/comm") as file:
        name = file.read()
    assert answer(connector) is True
    with open("/proc/self/comm") as file:
        assert file.read() == name


def test_events_that_do_not_arrive_are_no_proof(connector: Connector) -> None:
    """The queue was read to its end, and nothing was lost."""
    attach(connector._socket, assembled((GIVE, 0, 0, 0)))
    assert answer(connector) is False


def test_an_answer_that_may_have_been_dropped_is_unknown() -> None:
    """A loss says nothing about silence, nor does a queue that is not read to its end."""
    for parts, limit, expected in (
        ([LOSS, event(1)], 1_000_000, None),
        ([event(1)], 1, None),
        ([event(1)], 10, False),
        ([event(1), event(OWN)], 10, True),
        ([event(OWN), LOSS], 10, True),
    ):
        connector = scripted(Script(*parts))
        connector._is_asked = True
        connector.receive(set(), limit=limit)
        assert connector.answer is expected, parts


@pytest.mark.skipif(module._kernel_version() < (6, 6), reason="only since 6.6 may any user send requests")
def test_requests_of_others_are_heard(connector: Connector) -> None:
    """A listener that comes or goes is the ordinary one; only who asked for that is told."""
    Connector().close()
    connector.receive(set(), limit=10_000)
    assert not connector.requested
    connector.hear_requests()
    connector.receive(set(), limit=10_000)
    assert not connector.requested
    Connector().close()
    connector.receive(set(), limit=10_000)
    assert connector.requested
    connector.ignore_requests()
    connector.watch_parents(frozenset({1}))
    connector.requested = False
    Connector().close()
    connector.receive(set(), limit=10_000)
    assert not connector.requested


def test_a_renewed_subscription_is_one(connector: Connector) -> None:
    """Counting the kernel's listeners up changes nothing for those that listen."""
    connector.renew(100)
    assert answer(connector) is True
    with subprocess.Popen(["true"]) as process:
        assert process.pid in hear(connector, lambda heard: process.pid in heard)
    assert process.pid in {child for _, child in family(connector)}


FORGER = """
import os, socket, struct, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
portid, pid = int(sys.argv[1]), int(sys.argv[2])
body = struct.pack("=IIQII16x", 0x200, 0, 0, pid, pid)
message = struct.pack("=IHHII IIIIHH", 76, 3, 0, 0, 0, 1, 1, 0, 0, 40, 0) + body
for address in (portid, 0), (0, 1), (portid, 1):
    for connect in (False, True):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 11) as forger:
            try:
                if connect:
                    forger.connect(address)
                    forger.send(message)
                else:
                    forger.sendto(message, address)
            except PermissionError:
                continue
            print(address, connect, "was sent")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
def test_no_user_can_forge_an_event(connector: Connector) -> None:
    """Neither to a subscriber's address nor to all of them: an answer that arrived is the kernel's."""
    for opened in (connector._socket, connector._forks):
        portid = opened.getsockname()[0]
        command = [sys.executable, "-c", FORGER, str(portid), str(os.getpid())]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
    connector.receive(set(), limit=10_000)
    assert connector.answer is None


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc-v669", (6, 18)), ("6.6+", (6, 6)), ("5.10.0-28-amd64", (5, 10)), ("6.1.0-rc3", (6, 1))],
)
def test_kernel_releases_are_understood(
    release: str, version: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Distributions put their own words behind the numbers."""

    def uname() -> Any:
        return os.uname_result(("Linux", "host", release, "", ""))

    monkeypatch.setattr(os, "uname", uname)
    assert module._kernel_version() == version


def test_an_exec_is_taken_with_its_time_and_receive_does_not_see_it(connector: Connector) -> None:
    """One event for each call."""
    begun = time.monotonic_ns()
    with subprocess.Popen(["true"]) as process:
        pass
    at_ns: dict[int, int] = {}
    while process.pid not in at_ns:
        assert select.select([connector], [], [], 5)[0]
        event = connector.next_exec()
        if event is None:
            connector.receive(set(), limit=1)
        else:
            at_ns[event[0]] = event[1]
    assert begun < at_ns[process.pid] < time.monotonic_ns()
    heard: set[int] = set()
    connector.receive(heard, limit=1000)
    assert process.pid not in heard


def test_any_other_event_is_left_for_receive(connector: Connector) -> None:
    """As that of a rename."""
    connector.probe()
    while connector.answer is None:
        assert select.select([connector], [], [], 5)[0]
        if connector.next_exec() is None:
            connector.receive(set(), limit=1)
    assert connector.answer is True


def test_forks_are_read_to_the_one_that_is_asked_for(connector: Connector) -> None:
    """What was forked later is for the next call."""
    pids = []
    for _ in range(2):
        with subprocess.Popen(["true"]) as process:
            pids.append(process.pid)
    seen: list[int] = []
    connector.forks(lambda _parent, child, _at: seen.append(child), until=pids[0])
    assert seen[-1] == pids[0]
    connector.forks(lambda _parent, child, _at: seen.append(child))
    assert pids[1] in seen
