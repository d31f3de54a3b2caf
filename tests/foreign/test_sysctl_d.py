"""Which line of sysctl.d counts."""

from pathlib import Path

from oomguard.foreign.sysctl_d import lines_that_count, settings, sysctl_files, sysctls_said


def put(root: Path, name: str, text: str) -> str:
    """Write a file below the root and return its path."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def values(tmp_path: Path, text: str) -> dict[str, str]:
    """Return what one file sets."""
    file = put(tmp_path, "x.conf", text)
    return {name: said.value for name, said in settings(lines_that_count([file])).items()}


def test_files_hide_each_other_as_systemd_has_it(tmp_path: Path) -> None:
    """/etc before /run before /usr/lib for one name; then in order of names; /etc/sysctl.conf last."""
    root = tmp_path
    for folder in ("usr/lib", "run", "etc"):
        put(root, f"{folder}/sysctl.d/50.conf", f"vm.swappiness={len(folder)}\n")
    low = put(root, "usr/lib/sysctl.d/10.conf", "")
    put(root, "etc/sysctl.d/ignored.txt", "vm.swappiness=99\n")
    put(root, "etc/sysctl.d/.99-hidden.conf", "vm.swappiness=99\n")
    conf = put(root, "etc/sysctl.conf", "")
    assert sysctl_files(str(root)) == [low, str(root / "etc/sysctl.d/50.conf"), conf]
    assert sysctls_said(str(root))["vm.swappiness"].value == "3"
    (root / "etc/sysctl.d/50.conf").unlink()
    assert sysctls_said(str(root))["vm.swappiness"].value == "3"  # that of /run
    (root / "etc/sysctl.d/50.conf").symlink_to("/dev/null")  # how an administrator turns a file off
    assert "vm.swappiness" not in sysctls_said(str(root))
    (root / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    assert sysctl_files(str(root)).count(conf) == 0
    (root / "etc/sysctl.d/99-sysctl.conf").unlink()
    (root / "run/systemd/system").mkdir(parents=True)
    assert sysctl_files(str(root)).count(conf) == 0, "systemd reads only sysctl.d"
    (root / "etc/sysctl.d/60.conf").mkdir()
    (root / "etc/sysctl.d/70.conf").write_bytes(b"\xff\nvm.swappiness\n=\n=5\n")
    assert "vm.swappiness" not in sysctls_said(str(root))


def test_globs_are_for_what_no_line_names(tmp_path: Path) -> None:
    """A line wins wherever it stands, and `-NAME` keeps globs off; a * matches no slash."""
    assert values(tmp_path, "vm.dirty_expire_centisecs=1\nvm.*_centisecs = 5\n-vm.dirty_write*=7\n") == {
        "vm.dirty_expire_centisecs": "1",
        "vm.dirty_writeback_centisecs": "7",
    }
    assert values(tmp_path, "-vm.overcommit_memory\nvm/overcommit_[mr]*=1\n") == {"vm.overcommit_ratio": "1"}
    assert values(tmp_path, "kernel.*maxkeys=5\n") == {}
    assert values(tmp_path, "kernel.*.root_maxkeys=5\n") == {"kernel.keys.root_maxkeys": "5"}
    assert values(tmp_path, "vm.swappiness=5\n-vm.swappiness\n") == {}


def test_the_partner_that_is_written_last_counts(tmp_path: Path) -> None:
    """Writing one makes the other 0, even if 0 is written, unless that changes nothing."""
    assert values(tmp_path, "vm.dirty_ratio=5\nvm.dirty_bytes=4096\n") == {"vm.dirty_bytes": "4096"}
    assert values(tmp_path, "vm.dirty_ratio=5\nvm.dirty_bytes=0\n") == {"vm.dirty_ratio": "5"}
    assert values(tmp_path, "vm.dirty_bytes=0\nvm.dirty_ratio=5\n") == {"vm.dirty_ratio": "5"}
    assert values(tmp_path, "vm.dirty_bytes=8192\nvm.dirty_ratio=0\n") == {"vm.dirty_bytes": "8192"}
    for one, other in (
        ("vm.overcommit_ratio", "vm.overcommit_kbytes"),
        ("vm.overcommit_kbytes", "vm.overcommit_ratio"),
        ("vm.dirty_background_bytes", "vm.dirty_background_ratio"),
    ):
        assert values(tmp_path, f"{one}=70\n{other}=0\n") == {other: "0"}
        assert values(tmp_path, f"{one}=70\n{other}=much\n") == {one: "70"}  # which the kernel denies
    assert values(tmp_path, "vm.swappiness=much\n") == {"vm.swappiness": "much"}


def test_what_follows_a_number_is_ignored(tmp_path: Path) -> None:
    """Behind a space or tab, as the kernel does: systemd takes a comment there for a part of the value."""
    assert values(tmp_path, "vm.swappiness = 10 # less\nvm.laptop_mode=5\t; x\n") == {
        "vm.swappiness": "10",
        "vm.laptop_mode": "5",
    }
    assert values(tmp_path, "vm.dirty_ratio=5\nvm.dirty_bytes=4096 # x\n") == {"vm.dirty_bytes": "4096"}
    assert values(tmp_path, "vm.dirty_ratio=5\nvm.dirty_bytes=4096# x\n") == {"vm.dirty_ratio": "5"}


def test_a_line_that_repeats_a_value_leaves_it_in_its_place(tmp_path: Path) -> None:
    """So systemd writes the partner after it."""
    between = "vm.dirty_ratio=20\nvm.dirty_bytes=8192\nvm.dirty_ratio="
    assert values(tmp_path, f"{between}20\n") == {"vm.dirty_bytes": "8192"}
    assert values(tmp_path, f"{between}21\n") == {"vm.dirty_ratio": "21"}


def test_a_name_is_also_a_path(tmp_path: Path) -> None:
    """With slashes that change nothing."""
    text = "/vm/swappiness=1\nvm//max_map_count=2\nvm..laptop_mode=3\nvm.swappines*=4\n"
    assert values(tmp_path, text) == {"vm.swappiness": "1", "vm.max_map_count": "2", "vm.laptop_mode": "3"}


def test_lines_that_are_none_are_reported(tmp_path: Path) -> None:
    """With file, line and text."""
    file = put(tmp_path, "x.conf", "\n# a\n; b\nvm.swappiness 5\n= 5\nvm.swappiness = 6\r\n")
    wrong: list[tuple[int, str]] = []
    lines = lines_that_count([file], wrong=lambda _, line, text: wrong.append((line, text)))
    assert wrong == [(4, "vm.swappiness 5"), (5, "= 5")]
    assert settings(lines)["vm.swappiness"] == ("6", file, 6)
