"""What a TuneD profile sets."""

from pathlib import Path

from oomguard.foreign.tuned import active_profiles, load


def put(folder: Path, profile: str, text: str) -> str:
    """Write a profile and return its file."""
    file = folder / profile / "tuned.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def values(folder: Path, *profiles: str) -> dict[str, str]:
    """Return what profiles set together."""
    return {name: said.value for name, said in load(profiles, [str(folder)]).values.items()}


def test_a_profile_overrides_what_it_includes(tmp_path: Path) -> None:
    """The profiles of a list in their order, each once, with a circle and with comments behind values."""
    put(tmp_path, "base", "[main]\ninclude=mine\n[sysctl]\nvm.swappiness=10 # low\nvm.stat_interval=10\n")
    file = put(tmp_path, "mine", "[main]\ninclude=none;-gone, base\n[sysctl]\nvm.swappiness = 30\n")
    put(tmp_path, "last", "[sysctl]\nvm.stat_interval=20\n")
    found = load(["mine"], [str(tmp_path)])
    assert found.values["vm.swappiness"] == ("30", file, 4)
    assert [(one.what, one.at.source) for one in found.problems] == [("none", f"{file}:2")]
    assert values(tmp_path, "last", "mine") == {"vm.swappiness": "30", "vm.stat_interval": "10"}
    assert values(tmp_path, "mine", "last") == {"vm.swappiness": "30", "vm.stat_interval": "20"}


def test_sections_are_merged_replaced_dropped_and_disabled(tmp_path: Path) -> None:
    """As the profile says of itself."""
    put(tmp_path, "base", "[sysctl]\nvm.swappiness=10\nvm.stat_interval=10\n")
    put(tmp_path, "replaces", "[main]\ninclude=base\n[sysctl]\nreplace=1\nvm.swappiness=5\n")
    put(tmp_path, "drops", "[main]\ninclude=base\n[sysctl]\ndrop=vm.stat_interval, x\n")
    put(tmp_path, "disables", "[main]\ninclude=base\n[sysctl]\nenabled=false\n")
    put(tmp_path, "adds", "[main]\ninclude=base\n[more]\ntype=sysctl\npriority=-1\nvm.swappiness=5\n")
    assert values(tmp_path, "replaces") == {"vm.swappiness": "5"}
    assert values(tmp_path, "drops") == {"vm.swappiness": "10"}
    assert values(tmp_path, "disables") == {}
    assert values(tmp_path, "adds") == {"vm.swappiness": "10", "vm.stat_interval": "10"}, "-1 is before 0"


def test_a_percentage_of_dirty_bytes_is_a_ratio(tmp_path: Path) -> None:
    """What else [vm] has is no sysctl."""
    text = "[vm]\ntransparent_hugepages=never\ndirty_bytes = 40%\ndirty_background_bytes=67108864\n"
    put(tmp_path, "a", text)
    assert values(tmp_path, "a") == {"vm.dirty_ratio": "40", "vm.dirty_background_bytes": "67108864"}


def test_variables_are_expanded_and_what_needs_the_host_is_reported(tmp_path: Path) -> None:
    """With their line."""
    more = tmp_path / "more.conf"
    more.write_text("low=5\n")
    file = put(
        tmp_path,
        "a",
        f"[variables]\ninclude={more}\nlower=${{low}}\n[sysctl]\nvm.swappiness=${{lower}}\n"
        "vm.min_free_kbytes=${f:calc:1}\nvm.max_map_count=>262144\n"
        "[vm.arm]\ntype=vm\nuname_regex=aarch64\ndirty_bytes=4096\n",
    )
    found = load(["a"], [str(tmp_path)])
    assert {name: said.value for name, said in found.values.items()} == {"vm.swappiness": "5"}
    assert [(one.at.source, one.why) for one in found.problems] == [
        (f"{file}:6", "TuneD computes this on the host"),
        (f"{file}:7", "TuneD leaves a higher value alone"),
        (f"{file}:11", "applies only to some hosts, by its uname_regex"),
    ]


def test_a_file_whose_name_has_a_nul_cannot_be_read(tmp_path: Path) -> None:
    """A crash can leave some in a text."""
    put(tmp_path, "a", "[variables]\ninclude=/a\0b\n[sysctl]\nvm.swappiness=5\n")
    assert {name: said.value for name, said in load(["a"], [str(tmp_path)]).values.items()} == {
        "vm.swappiness": "5"
    }


def test_profiles_are_found_as_tuned_finds_them(tmp_path: Path) -> None:
    """The administrator's before the vendor's of one name; a path names its own file."""
    put(tmp_path / "etc", "a", "[sysctl]\nvm.swappiness=1\n")
    lower = put(tmp_path / "usr", "a", "[sysctl]\nvm.swappiness=2\n")
    folders = [str(tmp_path / "etc"), str(tmp_path / "usr")]
    assert load(["../etc/a"], folders).values["vm.swappiness"].value == "1"
    put(tmp_path / "etc", "a", "[main]\ninclude=a\n[sysctl]\nvm.stat_interval=1\n")
    assert [one.value for one in load(["a"], folders).values.values()] == ["2", "1"], (
        "it extends the vendor's"
    )
    put(tmp_path / "etc", "a", "[sysctl]\nvm.swappiness=1\n")
    assert load([lower], folders).values["vm.swappiness"].value == "2"
    assert active_profiles(str(tmp_path)) == ""
    (tmp_path / "etc/tuned").mkdir()
    (tmp_path / "etc/tuned/active_profile").write_text("a b\n")
    (tmp_path / "etc/tuned/post_loaded_profile").write_text("c\n")
    assert active_profiles(str(tmp_path)) == "a b c"
