"""The fuzzer's targets, each with its seeds and what hypothesis makes of any bytes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, seeds

_PIECES = st.binary(max_size=12) | st.sampled_from(
    [
        *(b"\n", b"\0", b")", b":", b"\t", b"{", b"}", b"[", b"]", b",", b'"', b"\x85", b"\xff", b"\\"),
        *(b"0::/", b"1:name=systemd:/", b"\nUid:\t", b"NSpid:\t", b"MemTotal: ", b" kB\n", b"CapEff:\t"),
        *(b'{"pid":', b'"entry":[', b'"sysctl":"vm.swappiness"', b"null", b"rules:\n- ", b"name: ", b"*x"),
        *(b"[" * 5000, b"\x1b[31m", "\u202e".encode(), b"9" * 5000, b"-1", b"1e999", b"NaN"),
        *(b" invoked oom-killer: gfp_mask=0x1, order=0\n", b"[ pid ]   uid  tgid total_vm      rss name\n"),
        *(b"[    7]     0     7     9     9 a\n", b"Killed process 7 (", b") total-vm:9kB\n", b"Mem-Info:\n"),
        *(b"Total swap = 9kB\n", b"9 pages RAM\n", b"[    1.000000] ", b"               "),
    ]
)


@pytest.mark.parametrize("name", TARGETS)
def test_its_seeds_and_nothing_are_taken(name: str) -> None:
    """A search has somewhere to start from."""
    assert seeds(name)
    for seed in [*seeds(name), b""]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces=st.lists(_PIECES, max_size=12))
def test_no_bytes_break_its_laws(name: str, pieces: list[bytes]) -> None:
    """Made of what its format is made of, in any order."""
    TARGETS[name](b"".join(pieces))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_damage_to_what_is_valid_breaks_its_laws(name: str, data: st.DataObject) -> None:
    """Bytes overwritten, cut out or put in, anywhere."""
    raw = bytearray(data.draw(st.sampled_from(seeds(name))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 8))] = data.draw(_PIECES)
    TARGETS[name](bytes(raw))
