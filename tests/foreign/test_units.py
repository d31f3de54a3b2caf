"""Which files of a unit count, and in which order."""

from pathlib import Path

import pytest

from oomguard.foreign.units import Units, host_units, variants

KEY = "OOMScoreAdjust"


def put(root: Path, name: str, value: int | str) -> str:
    """Write a unit or drop-in below the root that sets a value, and return its path."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[Service]\n{KEY}={value}\n")
    return str(path)


def value(root: Path, unit: str) -> str | None:
    """Return the value that counts."""
    found = host_units(str(root)).setting(unit, KEY)
    return None if found is None else found.value


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("a.service", ["a.service"]),
        ("a-b-c.service", ["a-b-c.service", "a-b-.service", "a-.service"]),
        ("a-b@1.service", ["a-b@1.service", "a-b@.service", "a-.service", "a-@1.service", "a-@.service"]),
        ("a-b@.service", ["a-b@.service", "a-.service"]),
        ("a-b-.slice", ["a-b-.slice", "a-.slice"]),
        ("-.mount", ["-.mount"]),
    ],
)
def test_drop_ins_are_sought_under_shorter_names_too(unit: str, expected: list[str]) -> None:
    """As systemd shortens them."""
    assert [*variants(unit)] == expected


def test_units_hide_each_other(tmp_path: Path) -> None:
    """/etc before /usr/lib for the unit and for drop-ins of one name."""
    put(tmp_path, "usr/lib/systemd/system/a.service", 1)
    put(tmp_path, "etc/systemd/system/a.service", 2)
    assert value(tmp_path, "a.service") == "2"
    put(tmp_path, "usr/lib/systemd/system/a.service.d/z.conf", 3)
    assert value(tmp_path, "a.service") == "3"
    (tmp_path / "etc/systemd/system/a.service.d").mkdir()
    (tmp_path / "etc/systemd/system/a.service.d/z.conf").symlink_to("/dev/null")
    assert value(tmp_path, "a.service") == "2"
    assert value(tmp_path, "b.service") is None
    (tmp_path / "etc/systemd/system/a.service").unlink()
    (tmp_path / "etc/systemd/system/a.service").symlink_to("/nonexistent")
    assert value(tmp_path, "a.service") == "1"


def test_of_drop_ins_with_one_name_the_most_specific_counts(tmp_path: Path) -> None:
    """The instance's, the template's, a prefix's, the type's; but of two names, the last one."""
    put(tmp_path, "etc/systemd/system/service.d/x.conf", 1)
    assert value(tmp_path, "a-b@7.service") == "1"
    put(tmp_path, "usr/lib/systemd/system/a-@.service.d/x.conf", 2)
    assert value(tmp_path, "a-b@7.service") == "2"
    put(tmp_path, "usr/lib/systemd/system/a-b@.service.d/x.conf", 3)
    assert value(tmp_path, "a-b@7.service") == "3"
    put(tmp_path, "usr/lib/systemd/system/a-b@7.service.d/x.conf", 4)
    assert value(tmp_path, "a-b@7.service") == "4"
    put(tmp_path, "etc/systemd/system/a-b@.service.d/x.conf", 5)
    assert value(tmp_path, "a-b@7.service") == "5"  # /etc comes before a more specific name
    put(tmp_path, "usr/lib/systemd/system/service.d/y.conf", 6)
    assert value(tmp_path, "a-b@7.service") == "6"
    assert value(tmp_path, "a-b@7.socket") is None


def test_drop_ins_of_an_alias_count_for_the_unit(tmp_path: Path) -> None:
    """The alias itself is no unit."""
    put(tmp_path, "usr/lib/systemd/system/real.service", 1)
    put(tmp_path, "usr/lib/systemd/system/alias.service", 7)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/alias.service").symlink_to("../../../usr/lib/systemd/system/real.service")
    put(tmp_path, "etc/systemd/system/alias.service.d/x.conf", 2)
    assert host_units(str(tmp_path)).names() == {"real.service"}
    assert value(tmp_path, "real.service") == "2"
    put(tmp_path, "usr/lib/systemd/system/real.service.d/x.conf", 3)  # its own name comes first
    assert value(tmp_path, "real.service") == "3"


def test_a_continued_line_is_one(tmp_path: Path) -> None:
    """What looks like a setting there is an argument; a comment between ends nothing (systemd.syntax(7))."""
    file = tmp_path / "a.service"
    file.write_bytes(
        b"\xef\xbb\xbf[Service]\nExecStart=/bin/x \\\n# more\n  OOMScoreAdjust=5\nOOMScoreAdjust=\\\n -7\n"
    )
    assert Units([str(file)]).setting("a.service", KEY) == ("-7", str(file), 5)
    file.write_text("[Service]\nExecStart=/x a\\\\\nOOMScoreAdjust=5\n")
    assert Units([str(file)]).setting("a.service", KEY) == ("5", str(file), 3), (
        "it is continued by one, not two"
    )
    file.write_text("[Service] \nExecStart=/x a\\ \nOOMScoreAdjust=5 \n")
    assert Units([str(file)]).setting("a.service", KEY) == ("5", str(file), 3), "nor by one before a space"
    file.write_text("[Service]\nOOMScoreAdjust=5\\")
    assert Units([str(file)]).setting("a.service", KEY) == ("5", str(file), 2), (
        "and the end of the file ends it"
    )
