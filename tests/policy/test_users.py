"""Which users are people, subordinate uids, and rules with `user` for the programs that run under them."""

import os
import pwd
from pathlib import Path

import pytest

from oomguard.core.match import quick_unmet
from oomguard.core.process import Identity, Process
from oomguard.core.rule import Rule, Terms, Value
from oomguard.core.serialize import decode, encode
from oomguard.core.trust import trust_refusal
from oomguard.policy import load
from oomguard.policy.source import Source
from oomguard.policy.users import Users, first_person_uid, parse_subuid

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("alice:100000:65536\n", {"alice": [100000, 165535]}),
        (
            "alice:100000:65536\nbob:165536:1\nalice:5:2",
            {"alice": [100000, 165535, 5, 6], "bob": [165536] * 2},
        ),
        ("1000:100000:65536\n", {"1000": [100000, 165535]}),
        ("# comment\n\nalice:1\nalice:-1:5\nalice:x:5\n:1:1\nalice:7:0\n:::\n", {}),
        ("alice:0:65536\n", {}),
        ("alice:4294967290:99999999\nbob:99999999999999999999:1\n", {"alice": [4294967290, 4294967294]}),
    ],
)
def test_ranges_are_read_as_far_as_they_can_be(text: str, found: dict[str, list[int]]) -> None:
    """A line that grants nothing, or root, or what no uid can be, grants nothing."""
    assert parse_subuid(text.encode()) == found


@pytest.mark.parametrize("user", [ME, os.getuid()])
@pytest.mark.parametrize("owner", [ME, str(os.getuid())])
def test_a_users_ranges_are_found_by_name_and_by_uid(tmp_path: Path, user: str | int, owner: str) -> None:
    """Whatever the file and the rule have."""
    file = tmp_path / "subuid"
    file.write_text(f"{owner}:300000:10\nsomebody-else:400000:10\n")
    assert Users(str(file)).subuids(user) == [300000, 300009]
    assert Users(str(file)).subuids("no-such-user") == []
    assert Users(str(tmp_path / "none")).subuids(user) == []


@pytest.mark.parametrize(
    ("uid", "unmet"),
    [(1000, None), (100000, None), (165535, None), (99999, "user"), (165536, "user"), (0, "user")],
)
def test_a_rule_for_a_user_matches_what_runs_under_his_subordinate_uids(uid: int, unmet: str | None) -> None:
    """Or anybody could leave it by newuidmap(1)."""
    terms = Terms(Value("exact", 800), users=("alice",), uids=(1000,), subuids=(100000, 165535))
    process = Process(Identity(20, 1), b"hog", uid=uid, in_user_namespace=True)
    assert quick_unmet(Rule(0, (), terms, "p.yaml", 1), process) == unmet


@pytest.mark.parametrize(
    ("uid", "saved", "is_refused"), [(1000, 1000, False), (100001, 100001, True), (100001, 1000, False)]
)
def test_a_subordinate_uid_vouches_for_nothing(uid: int, saved: int, *, is_refused: bool) -> None:
    """A rule that protects a user protects none of the containers that he runs."""
    terms = Terms(Value("exact", -500), users=("alice",), uids=(1000,), subuids=(100000, 165535))
    process = Process(Identity(20, 1), b"db", uid=uid, saved=saved, in_user_namespace=True)
    rule = Rule(0, (b"db",), terms, "p.yaml", 1)
    refusal = trust_refusal(rule, process, own=0, first_person_uid=1000)
    assert (refusal is not None) is is_refused


def test_a_policy_has_the_ranges_of_the_users_that_it_names(tmp_path: Path) -> None:
    """Of each rule its own."""
    granted = tmp_path / "subuid"
    granted.write_text(f"{ME}:300000:10\n{ME}:500000:10\n")
    rules = f"rules: [{{user: {ME}, oom_score_adj: 800}}, {{user: no-such-user, oom_score_adj: 800}}]"
    sources = (Source("policy.yaml", rules.encode()),)
    policy = decode(encode(load.parse(sources, users=Users(str(granted))).policy))
    assert [rule.terms.subuids for rule in policy.rules] == [(300000, 300009, 500000, 500009), ()]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("UID_MIN\t\t\t 1000\nUID_MAX 60000\n", 1000),
        ("UID_MIN 500\n", 500),
        ('  UID_MIN "500"\n', 500),
        ("UID_MIN 0x1F4\n", 500),
        ("#UID_MIN 500\nSYS_UID_MIN 100\nSUB_UID_MIN 200\n", 1000),
        ("UID_MIN 500\nUID_MIN 600\n", 600),
        ("UID_MIN 10000\n", 1000),
        ("UID_MIN 0\n", 1),
        ("UID_MIN\nUID_MIN many\n\xff\n", 1000),
        ("", 1000),
    ],
)
def test_people_begin_at_uid_min_or_below(tmp_path: Path, text: str, first: int) -> None:
    """A higher one says where new users begin; those from before may be people, too."""
    file = tmp_path / "login.defs"
    file.write_bytes(text.encode("latin-1"))
    assert first_person_uid((str(file),)) == first


def test_the_administrators_login_defs_comes_before_the_vendors(tmp_path: Path) -> None:
    """And without either, people begin where they do on most hosts."""
    ours, theirs = tmp_path / "etc", tmp_path / "usr"
    files = (str(ours), str(theirs))
    assert first_person_uid(files) == 1000
    theirs.write_text("UID_MIN 600\n")
    assert first_person_uid(files) == 600
    ours.write_text("UID_MIN 500\n")
    assert first_person_uid(files) == 500
