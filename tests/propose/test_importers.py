"""What other tools are told, as policies: each passes the loader, and nothing is lost in silence."""

import fnmatch
import re
import string
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomguard.core.errors import UsageError
from oomguard.core.name_regex import marked
from oomguard.core.policy import Policy
from oomguard.policy.load import parse
from oomguard.policy.regex_to_glob import alternatives, globs, literal
from oomguard.policy.source import Source
from oomguard.propose.importers import ananicy, earlyoom, nohang, sysctl_conf, systemd
from oomguard.propose.importers.files import ForeignError
from oomguard.propose.importers.table import IMPORTERS
from oomguard.propose.mend import valid
from oomguard.propose.policy_draft import Draft, DraftRule, Origin, render


def policy(draft: Draft) -> tuple[Policy, str]:
    """Return the policy that a draft makes, and its text."""
    text = render(valid(draft))
    return parse((Source("draft", text.encode()),)).policy, text


def rules(draft: Draft) -> list[tuple[str, str]]:
    """Return each rule's conditions and value."""
    return [(rule.label, str(rule.terms.value)) for rule in policy(draft)[0].rules]


# Regular expressions as globs


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("^sshd$", ["sshd"]),
        ("sshd", ["*sshd*"]),
        ("^chrom.*", ["chrom*"]),
        ("(^|/)(init|X|sshd)$", ["init", "X", "sshd"]),
        ("^(a|b(c|d))e$", ["ae", "bce", "bde"]),
        ("^a$|^b", ["a", "b*"]),
        (r"^kworker\.x$", ["kworker.x"]),
        ("^pyth.n[23]$", ["pyth?n[23]"]),
        ("^x[^a]$", ["x[!a]"]),
        ("^a.+$", ["a?*"]),
        ("", ["*"]),
        (r"^a\*$", ["a[*]"]),
        ("^ab?$", None),
        ("^a{2}$", None),
        ("^(ab)+$", None),
        (r"^\d+$", None),
        ("^(?!x)", None),
        ("(", None),
        ("^a^b$", None),
        ("^$", None),
        (r"[\\]", None),
        (r"[\]^)]", None),
        ("^[]a]$", ["[]a]"]),
        ("^a[(^|/)b]$", ["a[(^|/)b]"]),
        ("^[!a]$", None),
        ("^[^!a]$", ["[!!a]"]),
        ("^[a!]$", ["[a!]"]),
    ],
)
def test_a_regular_expression_becomes_globs_or_nothing(regex: str, expected: list[str] | None) -> None:
    """What no glob can say is never guessed at."""
    assert globs(regex) == expected


@given(
    st.text("ab!.*^$|()[]+?\\", max_size=10),
    st.lists(st.text("ab!.", max_size=4), min_size=1, max_size=20),
)
def test_globs_match_what_the_regular_expression_finds(regex: str, names: list[str]) -> None:
    """All of it unless an alternative is left out, and never more."""
    found = alternatives(regex)
    if not found.globs:
        return
    pattern = re.compile(regex)
    for name in names:
        matches = any(fnmatch.fnmatchcase(name, glob) for glob in found.globs)
        assert matches == bool(pattern.search(name)) or (found.unsaid and not matches), name


MANY = [f"program-{number}" for number in range(200)]


@pytest.mark.parametrize(
    ("regex", "expected", "unsaid"),
    [
        ("^(sshd|a+|cron)$", ["sshd", "cron"], ["^a+$"]),
        ("^sshd$|^(ab)+$", ["sshd"], ["^(ab)+$"]),
        ("^(sshd|(a|b){2})c$", ["sshdc"], ["^(a|b){2}c$"]),
        (r"^(sshd|(?!x)y|\w)$", ["sshd"], ["^(?!x)y$", r"^\w$"]),
        ("(?i)^a|^b", [], ["(?i)^a|^b"]),
        (f"^({'|'.join(MANY)})$", MANY, []),
    ],
)
def test_an_alternative_that_no_glob_can_say_drops_itself_alone(
    regex: str, expected: list[str], unsaid: list[str]
) -> None:
    """Flags change the others, too. A list may be as long as anybody writes it."""
    assert alternatives(regex) == (expected, unsaid)


@given(st.text(string.printable, min_size=1, max_size=12))
def test_a_literal_matches_itself_alone(text: str) -> None:
    """With brackets and stars in it."""
    assert fnmatch.fnmatchcase(text, literal(text))
    assert not fnmatch.fnmatchcase(text + "x", literal(text))


# The draft


@given(
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4),
    st.text(max_size=30),
    st.integers(-1000, 1000),
)
def test_whatever_is_drafted_the_text_is_a_valid_policy(names: list[str], reason: str, value: int) -> None:
    """Names that no process can have become notes; no comment breaks out of its line."""
    items: list[str | int] = [*names]
    found, text = policy(Draft("t", rules=(DraftRule({"name": items}, value, reason, Origin("f", 1)),)))
    kept = {name.decode() for rule in found.rules for name in rule.names}
    assert kept <= set(names)
    assert kept == set(names) or "# Left out:" in text
    assert all(rule.terms.value.number == value for rule in found.rules)


# earlyoom


def test_earlyoom_arguments_become_rules_and_notes() -> None:
    """What it spares comes first: there points add up, here the first match wins."""
    draft = earlyoom.import_arguments(
        ["--prefer", "^chrom", "--avoid=^(sshd|a+|Xorg)$", "-m", "5,3", "-r3600", "-gp"]
    )
    assert rules(draft) == [
        ("name=sshd|Xorg|/^a+$/", "at_most -300"),
        ("name=chrom*", "at_least 300"),
        ("name=earlyoom", "at_most -100"),
    ]
    assert [str(note) for note in draft.notes] == [
        "command line: -m 5,3: decides when to kill; oomguard never kills",
        "command line: -r 3600: only concerns earlyoom itself",
        "command line: -g: kills whole process groups; for cgroups the kernel has memory.oom.group",
    ]


def test_what_globs_cannot_say_becomes_a_regular_expression() -> None:
    """With the classes of POSIX as Python writes them; what names do not allow is left out by itself."""
    draft = earlyoom.import_arguments(["--prefer", r"(^|/)(node|java[[:digit:]]+|\bx|b{2})$"])
    found, text = policy(draft)
    (names,) = (rule.names for rule in found.rules)
    assert names == (b"node", marked("^java[0-9]+$"), marked("^b{2}$"))
    assert r"must not have \b, got ^\bx$" in " ".join(text.replace("# ", "").split())


def test_regular_expressions_beyond_what_a_policy_takes_are_left_out_at_once(tmp_path: Path) -> None:
    """In one round, not in one for each of them; names and globs beside them stay."""
    conf = tmp_path / "nohang.conf"
    lines = [f"@BADNESS_ADJ_RE_NAME 9 /// ^cat{number}$|^x{number}[0-9]+$" for number in range(450)]
    conf.write_text("\n".join(lines))
    start = time.process_time()
    draft = valid(nohang.import_files([str(conf)]))
    assert time.process_time() - start < 10
    assert len(draft.rules) == 450
    assert all(rule.conditions["name"][0] == f"cat{n}" for n, rule in enumerate(draft.rules))
    kept = sum(len(rule.conditions["name"]) == 2 for rule in draft.rules)
    assert [note.what for note in draft.notes] == [f"name ^x{n}[0-9]+$" for n in range(kept, 450)]
    assert 180 < kept < 440


def test_anchors_of_glibc_are_those_of_python() -> None:
    """Or they would be letters that no name has."""
    draft = earlyoom.import_arguments(["--prefer", r"\`(node|a\\<)\'", "--avoid", r"\<sshd"])
    found, text = policy(draft)
    assert [rule.names for rule in found.rules] == [(b"node", b"a\\<")]
    assert r"must not have \b, got \bsshd" in " ".join(text.replace("# ", "").split())


def test_of_an_option_that_is_given_twice_the_last_counts() -> None:
    """As earlyoom takes it; an option may be shortened."""
    draft = earlyoom.import_arguments(["--pref", "^a$", "--prefer=^b$", "--dry"])
    assert rules(draft) == [("name=b", "at_least 300")]
    assert [str(note).removeprefix("command line: ") for note in draft.notes] == [
        "--prefer '^a$': a later --prefer overrides it",
        "--dryrun: only concerns earlyoom itself",
    ]


def test_every_option_of_earlyoom_is_known() -> None:
    """Of version 1.9 (main.c)."""
    short = [f"-{one}" for one in "kingdvph"]
    valued = [word for one in "msMSNPr" for word in (f"-{one}", "1")]
    flags = ["dryrun", "ignore-root-user", "sort-by-rss", "syslog", "kernel-oom", "help", "debug"]
    draft = earlyoom.import_arguments([*short, *valued, *(f"--{one}" for one in flags)])
    assert len(draft.notes) == len(short) + len(valued) // 2 + len(flags) - 1  # -p is a rule
    assert not [note for note in draft.notes if "no such option" in note.why]


def test_earlyoom_arguments_are_found_in_debians_file_and_in_units(tmp_path: Path) -> None:
    """With the quotes of both; comments are none."""
    default = tmp_path / "earlyoom"
    default.write_text(
        "# EARLYOOM_ARGS=\"--avoid '^no$'\"\n"
        "EARLYOOM_ARGS=\"-r 60 --avoid '(^|/)(init|X)$' --prefer '^(Web Content)$'\"\n"
    )
    assert rules(earlyoom.import_files([str(default)])) == [
        ("name=init|X", "at_most -300"),
        ("name=Web Content", "at_least 300"),
    ]
    assert f"{default}:2: -r 60" in render(valid(earlyoom.import_files([str(default)])))
    unit = tmp_path / "earlyoom.service"
    unit.write_text("[Service]\nExecStart=/usr/bin/earlyoom $EARLYOOM_ARGS --ignore '^sway$'\n")
    assert rules(earlyoom.import_files([str(unit)])) == [("name=sway", "at_most -999")]
    both = earlyoom.import_files([str(unit), str(default)])
    assert [value for _, value in rules(both)] == ["at_most -999", "at_most -300", "at_least 300"]
    unit.write_text(
        "[Service]\nEnvironment=A=1 \"EARLYOOM_ARGS=--prefer '^a b$'\"\nExecStart=/usr/bin/earlyoom -p\n"
    )
    assert rules(earlyoom.import_files([str(unit)])) == [
        ("name=a b", "at_least 300"),
        ("name=earlyoom", "at_most -100"),
    ]


def test_continued_lines_of_earlyoom_are_one(tmp_path: Path) -> None:
    """By a backslash or an open quote in the file, by a backslash in a unit; a later line replaces it."""
    default = tmp_path / "earlyoom"
    default.write_text(
        "EARLYOOM_ARGS='-r 1'\n# it's a comment\nOTHER=x # isn't it\n"
        "EARLYOOM_ARGS=\"-r 60 \\\n  --avoid '^(a|b)$'\n  --prefer '^c$'\"\n"
    )
    draft = earlyoom.import_files([str(default)])
    assert rules(draft) == [("name=a|b", "at_most -300"), ("name=c", "at_least 300")]
    assert f"{default}:1: EARLYOOM_ARGS=: {default}:4 overrides it" in map(str, draft.notes)
    unit = tmp_path / "earlyoom.service"
    default.write_text("EARLYOOM_ARGS='--prefer ^a#b$' # don't\n")
    assert rules(earlyoom.import_files([str(default)])) == [("name=a#b", "at_least 300")]
    default.write_text("EARLYOOM_ARGS=\\\n\"--prefer '^a$'\"\n")
    assert rules(earlyoom.import_files([str(default)])) == [("name=a", "at_least 300")]
    unit.write_text("[Service]\nExecStart=/usr/bin/earlyoom \\\n  -r 60 \\\n  --prefer '^a$'\n")
    assert rules(earlyoom.import_files([str(unit)])) == [("name=a", "at_least 300")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prefer", "^a", "b$"], "b$: earlyoom does not start with it: the argument of --prefer"),
        (["--kill-all"], "--kill-all: earlyoom has no such option"),
    ],
)
def test_wrong_earlyoom_arguments_are_left_out(words: list[str], message: str) -> None:
    """And nothing else is."""
    draft = earlyoom.import_arguments(["--ignore", "^x$", *words])
    assert rules(draft)[0] == ("name=x", "at_most -999")
    assert [note for note in draft.notes if message in str(note)]


def test_an_option_without_its_value_is_an_error_on_the_command_line_and_a_note_in_a_file(
    tmp_path: Path,
) -> None:
    """Earlyoom does not start with either, but a file has more to import."""
    with pytest.raises(UsageError, match="earlyoom's --avoid has no value"):
        earlyoom.import_arguments(["--prefer", "^a$", "--avoid"])
    file = put(tmp_path, "earlyoom", "EARLYOOM_ARGS='--prefer ^a$ --avoid'\n")
    draft = earlyoom.import_files([file])
    assert rules(draft) == [("name=a", "at_least 300")]
    assert [str(note) for note in draft.notes] == [f"{file}:1: --avoid: needs an argument"]


def test_open_quotes_are_left_out_and_files_without_arguments_are_errors(tmp_path: Path) -> None:
    """With the place, and what to do."""
    file = tmp_path / "x"
    file.write_text('A=1\nEARLYOOM_ARGS="-r 60\n')
    draft = earlyoom.import_files([str(file)])
    assert [str(note) for note in draft.notes] == [f"{file}:2: no closing quotation"]
    file.write_bytes(b"EARLYOOM_ARGS='-r \xff'\n")
    with pytest.raises(ForeignError, match=r"x:1: is not UTF-8 text; .*x: has no EARLYOOM_ARGS="):
        earlyoom.import_files([str(file)])
    file.write_text("A=1\n")
    with pytest.raises(ForeignError, match="has no EARLYOOM_ARGS="):
        earlyoom.import_files([str(file)])


# nohang


NOHANG = r"""# comment
    indented is a comment, too
zram_checking_enabled = False
@BADNESS_ADJ_RE_NAME 200 /// ^(Web Content|tab)$
@BADNESS_ADJ_RE_CGROUP_V1-50 ///  /foo\.service$
@BADNESS_ADJ_RE_REALPATH 900 /// ^/usr/bin/stress
@BADNESS_ADJ_RE_CMDLINE 2000 /// --type=renderer
@BADNESS_ADJ_RE_UID -100 /// ^0$
@BADNESS_ADJ_RE_UID -100 /// ^10
@BADNESS_ADJ_RE_CWD 200 /// ^/home/
@BADNESS_ADJ_RE_ENVIRON 100 /// USER=user
@BADNESS_ADJ_RE_NAME 0 /// ^x$
@BADNESS_ADJ_RE_CMDLINE 5 /// (?P<n>x)
@SOFT_ACTION_RE_NAME ^foo$ /// kill -USR1 $PID
"""


def test_nohang_patterns_become_rules_by_what_they_look_at(tmp_path: Path) -> None:
    """And what nothing looks at is named by its line."""
    file = tmp_path / "nohang.conf"
    file.write_text(NOHANG)
    draft = nohang.import_files([str(file)])
    assert rules(draft) == [
        ("name=Web Content|tab", "at_least 200"),
        ("unit=foo.service", "at_most -50"),
        ("exe=/usr/bin/stress*", "at_least 900"),
        ("cmdline=--type=renderer", "at_least 1000"),
        ("user=0", "at_most -100"),
    ]
    text = " ".join(line.lstrip("# ") for line in render(valid(draft)).splitlines())
    for number, why in {
        9: "only whole uids",
        10: "no condition of a rule matches that",
        11: "no condition of a rule matches that",
        12: "adds nothing",
        13: "must not have named groups",
        14: "no equivalent",
    }.items():
        assert re.search(rf"nohang\.conf:{number}: .*?{why}", text), number
    assert "zram_checking_enabled (3)" in text
    assert "Its UID is the effective one, `user` the real one." in text
    file.write_text("a = 1\nb = 2\n")
    assert [note.settings for note in nohang.import_files([str(file)]).notes] == [2], (
        "the count that is printed"
    )


@pytest.mark.parametrize(
    "line", ["@BADNESS_ADJ_RE_NAME 20 ^x$", "@BADNESS_ADJ_RE_NAME x /// y", "what is this"]
)
def test_lines_that_nohang_would_refuse_are_left_out(tmp_path: Path, line: str) -> None:
    """With file and line."""
    file = tmp_path / "nohang.conf"
    file.write_text(f"\n{line}\n@BADNESS_ADJ_RE_NAME 20 /// ^(x|y+)$\n")
    draft = nohang.import_files([str(file)])
    assert rules(draft) == [("name=x|/^y+$/", "at_least 20")]
    assert [str(note.origin) for note in draft.notes] == [f"{file}:2"]


# Ananicy


def test_ananicy_values_come_direct_and_through_types(tmp_path: Path) -> None:
    """0 is a value, a rule's own value goes before its type's, and the last rule of a name counts.

    -1000 becomes a limit, as in every import.
    """
    (tmp_path / "00-types.types").write_text(
        '# comment\n{"type": "Game", "nice": -5}\n{"type": "BG", "oom_score_adj": 900, "nice": 19} # why\n'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.rules").write_text(
        '{"name": "indexer", "type": "BG"},\n'
        '{"name": "game.exe", "type": "Game"}\n'
        '{"name": "dear", "type": "BG", "oom_score_adj": 0}\n'
        '{"name": "odd[1]", "type": "BG"}\n'
        '{"name": "twice", "oom_score_adj": -100}\n'
        '{"name": "java", "cmdlines": ["x"], "type": "BG"}\n'
        '{"name": "lost", "type": "None"}\n'
        '{"name": "wild", "oom_score_adj": 5000}\n'
        '{"name": " a", "oom_score_adj": 5}\n'
    )
    (tmp_path / "z.rules").write_text(
        '{"name": "twice", "oom_score_adj": 100}\n{"name": "big", "oom_score_adj": -1000}\n'
    )
    draft = ananicy.import_files([str(tmp_path)])
    assert rules(draft) == [
        ("name=indexer|odd[[]1]", "900"),
        ("name=dear", "0"),
        ("name=twice", "100"),
        ("name=big", "at_most -999"),
    ]
    text = " ".join(line.lstrip("# ") for line in render(valid(draft)).splitlines())
    for note in (
        "a.rules:6: java: has `cmdlines`",
        "a.rules:7: lost: no type 'None'",
        "a.rules:8: oom_score_adj: must be an integer from -1000 to 1000, got 5000",
        "a.rules:9: name  a: starts with a space",
        "1 rule that set no oom_score_adj",
        "1 rule: a later rule for the same name overrides it",
    ):
        assert note in text, note
    assert "type BG, 00-types.types:3" in text


def test_the_last_rule_of_a_name_replaces_all_of_the_others(tmp_path: Path) -> None:
    """As in Ananicy and ananicy-cpp: what it does not set, or has from a type that is missing, is not set."""
    named = [f'{{"name": "{name}", "oom_score_adj": 300}}\n' for name in "abcd"]
    (tmp_path / "00.rules").write_text("".join(named))
    (tmp_path / "10.rules").write_text(
        '{"name": "a", "nice": 5}\n{"name": "b", "type": "None"}\n{"name": "c", "cmdlines": ["x"]}\n'
    )
    draft = ananicy.import_files([str(tmp_path)])
    assert rules(draft) == [("name=d", "300")]
    assert "3 rules: a later rule for the same name overrides it" in map(str, draft.notes)


def test_fifteen_thousand_rules_are_imported_in_one_go(tmp_path: Path) -> None:
    """As public rule sets have; they are a valid policy of few rules."""
    lines = [
        f'{{"name": "program-number-{number}", "oom_score_adj": {number % 3 * 100}}}\n'
        for number in range(15_000)
    ]
    (tmp_path / "all.rules").write_text("".join(lines))
    found, _ = policy(ananicy.import_files([str(tmp_path)]))
    assert [len(rule.names) for rule in found.rules] == [5000, 5000, 5000]


@pytest.mark.parametrize("line", ["{", "[1]", '{"name": "x"} {"name": "y"}', "name = x", '{"name": "x"}+'])
def test_what_is_no_json_object_is_left_out(tmp_path: Path, line: str) -> None:
    """With file and line."""
    (tmp_path / "x.rules").write_text(f'\n{line}\n{{"name": "z", "oom_score_adj": 5}}\n')
    draft = ananicy.import_files([str(tmp_path)])
    assert rules(draft) == [("name=z", "5")]
    assert [str(note) for note in draft.notes] == [f"{tmp_path}/x.rules:2: {line}: is not one JSON object"]


# systemd


def test_units_and_their_drop_ins_become_rules(tmp_path: Path) -> None:
    """The last assignment counts, an empty one takes it back, templates mean their instances."""
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for folder in (etc / "db@.service.d", etc / "web.service.d", lib / "multi-user.target.wants"):
        folder.mkdir(parents=True)
    (lib / "db@.service").write_text("[Service]\nOOMScoreAdjust=-900\n")
    (etc / "db@.service.d" / "10.conf").write_text("[Service]\nOOMScoreAdjust = \\\n  -800\n")
    (lib / "web.service").write_text("[Unit]\nOOMScoreAdjust=5\n[Service]\nOOMScoreAdjust=300\n")
    (etc / "web.service.d" / "none.conf").write_text("[Service]\nOOMScoreAdjust=\n")
    (lib / "batch.service").write_text("[Service]\n# OOMScoreAdjust=1\nOOMScoreAdjust=500\n")
    (etc / "batch.service").write_text("[Service]\nOOMScoreAdjust=700\n")
    (lib / "logind.service").write_text("[Service]\nOOMScoreAdjust=0\n")
    (lib / "wrong.service").write_text("[Service]\nOOMScoreAdjust=5000\n")
    (lib / "user@.service").write_text("[Service]\nOOMScoreAdjust=100\n")  # the manager's own
    (lib / "octal.service").write_text("[Service]\nOOMScoreAdjust=010\n")  # 8 for systemd
    (lib / "masked.service").write_text("[Service]\nOOMScoreAdjust=5\n")
    (etc / "masked.service").symlink_to("/dev/null")
    (lib / "multi-user.target.wants" / "batch.service").symlink_to(lib / "batch.service")
    (etc / "system.conf").write_text("[Manager]\nDefaultOOMScoreAdjust=50\n")
    draft = systemd.import_files([str(etc), str(lib)])
    assert rules(draft) == [
        ("unit=batch.service", "at_least 700"),
        ("unit=octal.service", "at_least 8"),
        ("unit=db@*.service", "at_most -800"),
    ]
    assert [rule.terms.scope for rule in policy(draft)[0].rules] == ["all", "all", "main"]
    assert sorted(str(note.origin).rpartition("/")[2] for note in draft.notes) == [
        "logind.service:2",
        "system.conf:2",
        "user@.service:2",
        "wrong.service:2",
    ]


def test_drop_ins_of_instances_prefixes_and_types_count_as_systemd_has_it(tmp_path: Path) -> None:
    """The narrower rule comes first; a unit that has what a broader rule gives needs none.

    systemd gives the children of a protected unit its value, not that of a broader drop-in.
    """
    for name, value in {
        "lib/db@.service": "-900",
        "etc/db@7.service.d/x.conf": "-800",
        "lib/db@.service.d/x.conf": "-700",
        "etc/batch-.service.d/x.conf": "500",
        "lib/batch-one.service": "100",
        "lib/batch-many@.service": "100",
        "etc/batch-two.service.d/y.conf": "600",
        "etc/batch-free.service.d/y.conf": "",
        "etc/service.d/a.conf": "50",
        "lib/web.service": "0",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"[Service]\nOOMScoreAdjust={value}\n")
    (tmp_path / "etc/alias.service").symlink_to("../lib/web.service")
    draft = systemd.import_files([str(tmp_path / "etc"), str(tmp_path / "lib")])
    assert rules(draft) == [
        ("unit=batch-free.service", "keep"),
        ("unit=batch-two.service", "at_least 600"),
        ("unit=db@7.service", "at_most -800"),
        ("unit=db@*.service", "at_most -700"),
        ("unit=db@*.service", "keep"),
        ("unit=batch-*.service", "at_least 500"),
        ("unit=*.service", "at_least 50"),
    ]
    assert draft.notes == ()


def test_units_of_users_own_managers_are_told_apart(tmp_path: Path) -> None:
    """They never are system units."""
    folder = tmp_path / "systemd" / "user"
    folder.mkdir(parents=True)
    (folder / "indexer.service").write_text("[Service]\nOOMScoreAdjust=600\n")
    assert rules(systemd.import_files([str(tmp_path)])) == [("user_unit=indexer.service", "at_least 600")]


# sysctl


def sysctls(draft: Draft) -> list[tuple[str, int]]:
    """Return each sysctl and its value, sorted."""
    return sorted((one.name, one.value) for one in policy(draft)[0].sysctls)


def put(folder: Path, name: str, text: str) -> str:
    """Write a file and return its path."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def test_of_each_sysctl_the_line_that_counts_becomes_the_policy(tmp_path: Path) -> None:
    """A file hides those of its name in later folders; globs, and what is set elsewhere, by their rules."""
    etc, lib = tmp_path / "etc/sysctl.d", tmp_path / "usr/lib/sysctl.d"
    put(lib, "10-a.conf", "vm.swappiness=10\nvm.overcommit_ratio=70\nnet.ipv4.ip_forward=1\n")
    put(lib, "20-b.conf", "vm.max_map_count=1\n")
    last = put(etc, "20-b.conf", "-vm.swappiness=0x14\nvm.overcommit_m*=1\nvm.dirty_bytes=8192\nno line\n")
    low = put(
        etc, "05-c.conf", "vm.dirty_ratio=5\nvm.drop_caches=3\nkernel.panic_on_warn=1\nvm.laptop_mode=x\n"
    )
    named = put(tmp_path, "sysctl.conf", "kernel.panic = 10\nvm.watermark_scale_factor=4000\n")
    draft = sysctl_conf.import_files([str(etc), str(lib), named])
    assert sysctls(draft) == [
        ("kernel.panic", 10),
        ("vm.dirty_bytes", 8192),
        ("vm.overcommit_memory", 1),
        ("vm.overcommit_ratio", 70),
        ("vm.swappiness", 20),
    ]
    assert sorted(map(str, valid(draft).notes)) == sorted(
        [
            f"{low}:1: vm.dirty_ratio=5: vm.dirty_bytes, {last}:3 counts instead",
            f"{low}:2: vm.drop_caches=3: it drops caches once, at the moment it is written",
            f"{low}:3: kernel.panic_on_warn=1: oomguard does not set this sysctl",
            f"{low}:4: vm.laptop_mode=x: must be a number",
            f"{last}:4: no line: is not an assignment",
            f"{named}:2: vm.watermark_scale_factor=4000: must be an integer from 1 to 3000, got 4000",
            f"{lib}/10-a.conf:3: net.ipv4.ip_forward=1: oomguard sets only sysctls about memory and panics",
        ]
    )
    assert f"  # {low}" not in render(draft).partition("# Left out")[0]


def test_of_many_other_sysctls_some_are_named_and_all_are_counted(tmp_path: Path) -> None:
    """The policy is to be read."""
    file = put(tmp_path, "99.conf", "".join(f"net.core.x{number}=1\n" for number in range(25)))
    notes = sysctl_conf.import_files([file]).notes
    assert str(notes[0]).startswith(f"{file}:1: net.core.x0=1: ")
    assert (len(notes), notes[-1].what, sum(note.settings for note in notes)) == (21, "5 more settings", 25)


def test_tuned_overrides_the_vendor_and_not_the_administrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It applies /etc/sysctl.d again after its profile; what a profile includes is beside it."""
    put(tmp_path, "base/tuned.conf", "[vm]\ndirty_bytes=40%\n[sysctl]\nvm.swappiness=30\n")
    profile = put(tmp_path, "mine/tuned.conf", "[main]\ninclude=base\n[sysctl]\nvm.max_map_count=>262144\n")
    put(tmp_path, "usr/lib/sysctl.d/a.conf", "vm.dirty_ratio=20\n")
    mine = put(tmp_path, "etc/sysctl.d/b.conf", "vm.swappiness=10\n")
    draft = sysctl_conf.import_files(
        [str(tmp_path / "etc/sysctl.d"), str(tmp_path / "usr/lib/sysctl.d"), str(tmp_path / "mine")]
    )
    assert sysctls(draft) == [("vm.dirty_ratio", 40), ("vm.swappiness", 10)]
    put(tmp_path, "usr/lib/sysctl.d/c.conf", "vm.swappiness=60\n")
    draft = sysctl_conf.import_files(
        [str(tmp_path / "etc/sysctl.d"), str(tmp_path / "usr/lib/sysctl.d"), str(tmp_path / "mine")]
    )
    assert sysctls(draft) == [("vm.dirty_ratio", 40), ("vm.swappiness", 10)], "though the vendor's was later"
    text = " ".join(map(str, draft.notes))
    assert f"{profile}:4: vm.max_map_count=>262144: TuneD leaves a higher value alone" in text
    assert f"{tmp_path}/base/tuned.conf:4: vm.swappiness=30: {mine}:1 counts instead" in text
    monkeypatch.chdir(tmp_path / "mine")
    assert sysctls(sysctl_conf.import_files(["tuned.conf"])) == sysctls(sysctl_conf.import_files([profile]))
    assert sysctls(sysctl_conf.import_files([profile])) == [("vm.dirty_ratio", 40), ("vm.swappiness", 30)]
    monkeypatch.setattr(sysctl_conf, "_TUNED_MAIN", put(tmp_path, "main.conf", "reapply_sysctl=0\n"))
    draft = sysctl_conf.import_files([mine, profile])
    assert ("vm.swappiness", 10) in sysctls(draft), "this host's setting is not that of the files"


# Files


@pytest.mark.parametrize("tool", IMPORTERS)
def test_files_that_cannot_be_read_are_errors(tool: str, tmp_path: Path) -> None:
    """One that is not there, and one that is no text."""
    load = IMPORTERS[tool]
    with pytest.raises(ForeignError, match=r"no such file"):
        load([str(tmp_path / "none")])
    binary = tmp_path / "x.service"
    binary.write_bytes(b"\0\1")
    with pytest.raises(ForeignError, match="is not text"):
        load([str(binary)])


TEXTS = {
    "earlyoom": ("x", "EARLYOOM_ARGS=--prefer=^x$\n"),
    "nohang": ("x.conf", "@BADNESS_ADJ_RE_NAME 5 /// ^x$\n"),
    "ananicy": ("x.rules", '{"name": "x", "oom_score_adj": 5}\n'),
    "systemd": ("x.service", "[Service]\nOOMScoreAdjust=5\n"),
    "sysctl": ("x.conf", "vm.swappiness=5\n"),
}


@pytest.mark.parametrize("tool", IMPORTERS)
def test_what_cannot_be_read_of_several_files_is_left_out(tool: str, tmp_path: Path) -> None:
    """Folders, links to nothing, what is no text, bytes that are not UTF-8: each by file and line."""
    name, text = TEXTS[tool]
    (tmp_path / f"folder-{name}").mkdir()
    (tmp_path / f"link-{name}").symlink_to("/nonexistent/x")
    (tmp_path / f"binary-{name}").write_bytes(b"\0\1")
    (tmp_path / f"bytes-{name}").write_bytes(b"# \xff\n\xff = x\n" + text.encode())
    reads_folders = tool in ("ananicy", "systemd", "sysctl")
    paths = [str(tmp_path)] if reads_folders else sorted(map(str, tmp_path.iterdir()))
    draft = IMPORTERS[tool](paths)
    assert len(draft.rules) + len(draft.settings) == 1
    assert sorted(str(note) for note in draft.notes if not note.what) == [
        f"{tmp_path}/binary-{name}: is not text",
        f"{tmp_path}/bytes-{name}:2: is not UTF-8 text",
        f"{tmp_path}/folder-{name}: is a folder",
        f"{tmp_path}/link-{name}: is a link to /nonexistent/x, which does not exist",
    ]
    assert all(line.isprintable() for line in render(valid(draft)).splitlines())


def test_bytes_that_a_crash_left_in_a_file_cost_their_line_only(tmp_path: Path) -> None:
    """Zeros are no text; what is mostly zeros is no configuration."""
    file = tmp_path / "nohang.conf"
    file.write_bytes(b"\0\0\n@BADNESS_ADJ_RE_NAME 5 /// ^a$\n# \0\n@BADNESS_ADJ_RE_NAME 5 /// ^b$")
    draft = nohang.import_files([str(file)])
    assert [rule[0] for rule in rules(draft)] == ["name=a", "name=b"]
    assert [str(note) for note in draft.notes] == [f"{file}:1: is not UTF-8 text"]


def test_comments_show_regular_expressions_as_they_were_written(tmp_path: Path) -> None:
    """With no backslash more; what would act on a terminal is escaped."""
    file = tmp_path / "nohang.conf"
    file.write_text("@BADNESS_ADJ_RE_CMDLINE 5 /// \\.jar$\n@X \x1b \\d\n")
    text = " ".join(render(nohang.import_files([str(file)])).replace("#", "").split())
    assert r"/// \.jar$ (" in text
    assert r"@X \x1b \d" in text
