"""YAML as a tree with lines and columns, within bounds."""

import time
from typing import TYPE_CHECKING

import pytest
import yaml

from oomguard.policy import yaml_tree
from oomguard.policy.nodes import Mapping, Node, Scalar, Sequence
from oomguard.policy.scalars import data

if TYPE_CHECKING:
    from oomguard.policy.fault import Fault


def _parse(text: str) -> Node:
    root, faults = yaml_tree.parse("x.yaml", text.encode())
    assert faults == []
    assert root is not None
    return root


def _faults(content: str | bytes) -> "list[Fault]":
    raw = content.encode() if isinstance(content, str) else content
    return yaml_tree.parse("x.yaml", raw)[1]


def test_every_node_knows_its_line_and_column() -> None:
    """Places count from 1, keys and values apart."""
    root = _parse("a: 1\nb:\n  - 'x'\n  - y\n")
    assert isinstance(root, Mapping)
    assert root.entries["a"] == (Scalar("1", True, 1, 4), 1, 1)
    value, line, column = root.entries["b"]
    assert (line, column) == (2, 1)
    assert value == Sequence([Scalar("x", False, 3, 5), Scalar("y", True, 4, 5)], 3, 3)


def test_columns_count_characters_and_a_byte_order_mark_counts_nothing() -> None:
    """An editor and a fault agree on the column."""
    root, faults = yaml_tree.parse("x.yaml", b"\xef\xbb\xbf\xc3\xa9: {b: c}")
    assert faults == []
    assert isinstance(root, Mapping)
    inner = root.entries["é"].value
    assert isinstance(inner, Mapping)
    assert inner.column == 4
    assert inner.entries["b"].value.column == 8


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but words\n", "%YAML 1.1\n---\n# x\n"])
def test_an_empty_file_has_no_root_to_speak_of(text: str) -> None:
    """Nothing, or the empty scalar after `---`."""
    root, faults = yaml_tree.parse("x.yaml", text.encode())
    assert faults == []
    assert root is None or root[:2] == ("", True)


def test_aliases_stand_for_what_they_name() -> None:
    """At the place of the alias; what is in a collection keeps its own."""
    root = _parse("a: &x [1, 2]\nb: *x\nc: &y word\nd: *y\n")
    assert isinstance(root, Mapping)
    assert root.entries["b"].value == root.entries["a"].value._replace(line=2, column=4)
    assert root.entries["d"].value == Scalar("word", True, 4, 4)


def test_bytes_that_are_not_utf_8_are_named_by_place() -> None:
    """The column counts characters, not bytes."""
    (fault,) = _faults("a: 1\né: ".encode() + b"\xff\n")
    assert str(fault) == "x.yaml:2:4: byte 0xff is not valid UTF-8"


@pytest.mark.parametrize("character", ["\0", "\x07", "\x1b", "\x7f", "\x84", "\ufffe"])
def test_control_characters_are_named_by_place(character: str) -> None:
    """YAML forbids them, and a terminal would obey them."""
    (fault,) = _faults(f"a: 1\nb: x{character}")
    code = f"{ord(character):04X}"
    assert str(fault) == f"x.yaml:2:5: control character U+{code} is not allowed in a policy"


@pytest.mark.parametrize("character", "\x85\u2028\u2029")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_no_comment_ends_where_only_yaml_1_1_breaks_lines(character: str, end: str) -> None:
    """What follows would be a policy that no editor shows as such. In double quotes it can be escaped."""
    (fault,) = _faults(f"a: 1{end}# x{character}b: 2")
    code = f"{ord(character):04X}"
    assert str(fault) == f"x.yaml:2:4: line break U+{code} is not allowed in a policy"
    assert f'"\\u{code.lower()}"' in fault.hint
    assert _faults(f'a: "\\u{code}"') == []


def test_nesting_is_bounded() -> None:
    """Twenty levels are read, twenty-one are not."""
    assert _faults("[" * 20 + "]" * 20) == []
    (fault,) = _faults("[" * 21 + "]" * 21)
    assert fault.code == "too-deep"
    assert (fault.line, fault.column) == (1, 21)


@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_nesting_is_too_deep_whichever_loader_stops_first(
    opening: str, loader: type[yaml.SafeLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 0.2.6 on, libyaml stops at 1,000 levels, and may not have handed over the twentieth by then."""
    monkeypatch.setattr(yaml_tree, "_LOADER", loader)
    (fault,) = _faults(opening * 2_000)
    assert fault.code == "too-deep"


def test_nesting_through_aliases_is_bounded_too() -> None:
    """Each line is shallow, and all together would be a thousand deep."""
    lines = ["- &a0 [x]"] + [f"- &a{n} [*a{n - 1}]" for n in range(1, 1000)]
    (fault,) = _faults("\n".join(lines))
    assert fault.code == "too-deep"
    assert fault.line == 20


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("[" * 4_000_000, "too-deep"),
        ("{a: " * 1_000_000, "too-deep"),
        ("- " * 2_000_000, "too-deep"),
        ("? " * 2_000_000, "too-deep"),
        ("-\n" * 2_000_000, "too-many-values"),
        ("[" + "a," * 2_000_000 + "]", "too-many-values"),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 15)),
            "too-many-aliases",
        ),
        ("a: &a [" + "x," * 1000 + "]\nb: [" + "*a," * 1_000_000 + "]", "too-many-aliases"),
    ],
    ids=["lists", "mappings", "block lists", "keys", "items", "flow items", "billion laughs", "quadratic"],
)
def test_bombs_are_defused_in_bounded_time(content: str, code: str) -> None:
    """Four megabytes of malice take seconds at most, and say what was wrong."""
    start = time.process_time()
    root, faults = yaml_tree.parse("x.yaml", content.encode())
    assert time.process_time() - start < 10
    assert root is None
    assert faults[-1].code == code


def test_all_duplicate_keys_are_found_and_the_first_value_stays() -> None:
    """Each names the line of the first."""
    root, faults = yaml_tree.parse("x.yaml", b"a: 1\nb: 2\na: 3\nb: 4\na: 5\n")
    assert [(fault.line, fault.message) for fault in faults] == [
        (3, "a is already set on line 1"),
        (4, "b is already set on line 2"),
        (5, "a is already set on line 1"),
    ]
    assert root is not None
    assert data(root) == {"a": 1, "b": 2}


def test_the_pure_python_parser_is_understood_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML without libyaml words its complaints differently."""
    monkeypatch.setattr(yaml_tree, "_LOADER", yaml.SafeLoader)
    wanted = {
        "a:\n  b 1\n  c: 2": "b has no ': ' after it",
        "a: 1\nb 2\nc: 3": "b has no ': ' after it",
        "a:\n\t- b": "this line is indented with a tab",
        "a: b: c": "a key is not allowed here",
        "a: [1": "the [ on line 1 is not closed, or a ',' is missing",
        "a: *": "* starts an alias in YAML, but no name follows",
        "a: @x": "text cannot start with @ unless it is quoted",
        'a: "\\d"': "unknown escape after a backslash",
        "- a\nb: c": "this line does not belong to the list that starts on line 1, or to anything above it",
        'a: "\\ud800"': "contains half of a surrogate pair, which is not a character",
    }
    assert {text: _faults(text)[0].message for text in wanted} == wanted
