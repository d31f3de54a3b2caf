"""An edit of the policy is noticed, however it is made; what is none is not."""

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oomguard.core.policy import Layer, drop_in_folder, layers
from oomguard.daemon.policy_watch import PolicyWatch
from oomguard.policy.source import read_layers, read_sources

Edit = Callable[[Path], None]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return a policy in a folder of its own."""
    path = tmp_path / "etc" / "oomguard.yaml"
    path.parent.mkdir()
    path.write_text("rules: []\n")
    return path


@pytest.fixture
def watch(policy: Path) -> Iterator[PolicyWatch]:
    """Watch it."""
    made = PolicyWatch(layers(str(policy)))
    yield made
    made.close()


def told(watch: PolicyWatch) -> bool:
    """Tell whether there was an event since the last time, and take it."""
    fd = watch.fileno()
    assert fd is not None
    readable, _, _ = select.select([fd], [], [], 0)
    watch.drain()
    return bool(readable)


def write_in_place(policy: Path) -> None:
    """As `echo >>` does."""
    with policy.open("a") as file:
        file.write("# more\n")


def rename_over(policy: Path) -> None:
    """As most editors do."""
    new = policy.with_name("4913~")
    new.write_text("rules: [] # new\n")
    new.rename(policy)


def move_away_and_write(policy: Path) -> None:
    """As vim does with a backup."""
    policy.rename(policy.with_suffix(".yaml~"))
    policy.write_text("rules: [] # new\n")


def delete(policy: Path) -> None:
    """As somebody who did not mean to."""
    policy.unlink()


def close_to_others(policy: Path) -> None:
    """Its mode decides whether it is taken at all."""
    policy.chmod(0o600)


def add_a_drop_in(policy: Path) -> None:
    """With the folder for it."""
    folder = policy.with_suffix(".d")
    folder.mkdir(exist_ok=True)
    (folder / "10-more.yaml").write_text("rules: []\n")


EDITS = [write_in_place, rename_over, move_away_and_write, delete, close_to_others, add_a_drop_in]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edit_is_told_and_has_changed_something(watch: PolicyWatch, policy: Path, edit: Edit) -> None:
    """And after a renewal it is over."""
    assert not told(watch)
    assert not watch.has_changed()
    edit(policy)
    assert told(watch)
    assert watch.has_changed()
    watch.renew()
    assert not told(watch)
    assert not watch.has_changed()


def test_a_drop_in_in_a_folder_that_came_later_is_told(watch: PolicyWatch, policy: Path) -> None:
    """The empty folder is no edit, what is put there minutes later is."""
    folder = policy.with_suffix(".d")
    folder.mkdir()
    assert told(watch)
    assert not watch.has_changed()
    (folder / "10-more.yaml").write_text("rules: []\n")
    assert told(watch)
    assert watch.has_changed()


@pytest.mark.parametrize(
    "name", ["README", ".#10-more.yaml", ".10-more.yaml.swp", "10-more.yaml~", "10-more.yml", "10-more"]
)
def test_what_is_no_drop_in_is_no_edit(watch: PolicyWatch, policy: Path, name: str) -> None:
    """It is not read, either: the two agree on what a drop-in is."""
    folder = policy.with_suffix(".d")
    folder.mkdir()
    (folder / name).write_text("rules: []\n")
    assert told(watch)
    assert not watch.has_changed()
    assert [source.file for source in read_sources(str(policy)) if not source.fault] == [str(policy)]


def test_what_others_write_beside_it_is_no_edit(watch: PolicyWatch, policy: Path) -> None:
    """The folder is /etc, where much happens."""
    policy.with_name("passwd").write_text("")
    assert told(watch)
    assert not watch.has_changed()


def test_a_link_that_is_removed_while_it_is_followed_ends_nothing(
    watch: PolicyWatch, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event of its removal is still to come."""
    policy.unlink()
    monkeypatch.setattr(os.path, "islink", lambda path: path == str(policy))
    assert watch.has_changed()
    assert told(watch)


def test_a_change_of_users_counts_for_a_policy_that_names_some(
    watch: PolicyWatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the policy is."""
    users = tmp_path / "users" / "passwd"
    users.parent.mkdir()
    monkeypatch.setattr("oomguard.daemon.policy_watch.USER_FILES", (str(users),))
    watch.renew()
    users.write_text("")
    assert told(watch)
    assert not watch.has_changed()
    watch.follows_users = True
    assert watch.has_changed()


@pytest.mark.parametrize("name", ["oomguard.yaml", "oomguard.yml", "oomguard.conf", "oomguard", "a.b.yaml"])
def test_the_folder_of_drop_ins_is_the_one_that_is_read(tmp_path: Path, name: str) -> None:
    """Whatever the policy is called."""
    path = tmp_path / name
    path.write_text("rules: []\n")
    folder = Path(drop_in_folder(str(path)))
    folder.mkdir()
    watch = PolicyWatch(layers(str(path)))
    (folder / "10.yaml").write_text("rules: []\n")
    assert told(watch)
    assert watch.has_changed()
    watch.close()


def test_the_swap_of_a_configmap_is_told(tmp_path: Path) -> None:
    """Kubernetes links the file to `..data/`, and that to a folder it exchanges as a whole."""
    for generation, text in (("..1", "rules: []\n"), ("..2", "rules: [] # new\n")):
        (tmp_path / generation).mkdir()
        (tmp_path / generation / "oomguard.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "oomguard.yaml").symlink_to("..data/oomguard.yaml")
    watch = PolicyWatch(layers(str(tmp_path / "oomguard.yaml")))
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert told(watch)
    assert watch.has_changed()
    watch.renew()
    write_in_place(tmp_path / "..2" / "oomguard.yaml")
    assert told(watch)
    assert watch.has_changed()
    watch.close()


def test_the_swap_of_a_linked_folder_above_it_is_told(tmp_path: Path) -> None:
    """As a deployment does with `current`; through several links, absolute and relative."""
    for release in ("one", "two"):
        (tmp_path / "releases" / release / "etc").mkdir(parents=True)
        (tmp_path / "releases" / release / "etc" / "oomguard.yaml").write_text(f"rules: [] # {release}\n")
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "one")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "etc").symlink_to("../current/etc")
    watch = PolicyWatch(layers(str(tmp_path / "here" / "etc" / "oomguard.yaml")))
    (tmp_path / "next").symlink_to("releases/two")
    (tmp_path / "next").rename(tmp_path / "current")
    assert told(watch)
    assert watch.has_changed()
    watch.close()


def test_links_in_a_circle_are_followed_only_so_far(tmp_path: Path) -> None:
    """It is a policy that cannot be read, and may become one that can."""
    (tmp_path / "a.yaml").symlink_to("b.yaml")
    (tmp_path / "b.yaml").symlink_to("a.yaml")
    watch = PolicyWatch(layers(str(tmp_path / "a.yaml")))
    assert not watch.has_changed()
    (tmp_path / "b.yaml").unlink()
    (tmp_path / "b.yaml").write_text("rules: []\n")
    assert told(watch)
    assert watch.has_changed()
    watch.close()


def test_a_policy_that_is_not_there_may_come(tmp_path: Path) -> None:
    """Its folder is watched all the same."""
    watch = PolicyWatch(layers(str(tmp_path / "oomguard.yaml")))
    (tmp_path / "oomguard.yaml").write_text("rules: []\n")
    assert told(watch)
    assert watch.has_changed()
    watch.close()


def test_no_descriptor_is_left_behind(policy: Path) -> None:
    """However often it is renewed."""
    before = len(os.listdir("/proc/self/fd"))
    watch = PolicyWatch(layers(str(policy)))
    for _ in range(10):
        watch.renew()
    watch.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_every_layer_is_watched_also_one_that_comes_later(tmp_path: Path) -> None:
    """The folder is no edit, a file in it is; and what users write to beside it wakes nobody."""
    folders = [tmp_path / name / "oomguard.d" for name in ("etc", "run", "usr")]
    for folder in folders:
        folder.parent.mkdir()
    (tmp_path / "run" / "utmp").write_text("")
    watch = PolicyWatch(tuple(Layer(str(folder)) for folder in folders))
    (tmp_path / "run" / "utmp").write_text("a login")
    assert not told(watch)
    for folder in folders:
        folder.mkdir()
        assert told(watch)
        assert not watch.has_changed()
        (folder / "10.yaml").write_text("rules: []\n")
        assert told(watch)
        assert watch.has_changed()
        watch.renew()
    watch.close()


def test_a_mask_is_an_edit_and_what_is_written_to_its_target_is_none(tmp_path: Path) -> None:
    """Every user writes to /dev/null."""
    folder = tmp_path / "oomguard.d"
    folder.mkdir()
    watch = PolicyWatch((Layer(str(folder)),))
    (folder / "10.yaml").symlink_to("/dev/null")
    (folder / "20.yaml").symlink_to(os.path.relpath("/dev/null", folder))
    assert told(watch)
    assert watch.has_changed()
    watch.renew()
    Path("/dev/null").write_text("all the time")
    assert not told(watch)
    (folder / "10.yaml").unlink()
    assert told(watch)
    assert watch.has_changed()
    assert [source.is_mask for source in read_layers(watch.layers)] == [True]
    watch.close()


def test_the_swap_of_a_layer_that_is_a_link_is_told(tmp_path: Path) -> None:
    """And what is written where it leads by then."""
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "10.yaml").write_text(f"rules: [] # {release}\n")
    (tmp_path / "etc").mkdir()
    folder = tmp_path / "etc" / "oomguard.d"
    folder.symlink_to("../one")
    watch = PolicyWatch((Layer(str(folder)),))
    (tmp_path / "next").symlink_to("../two")
    (tmp_path / "next").rename(folder)
    assert told(watch)
    assert watch.has_changed()
    watch.renew()
    write_in_place(tmp_path / "two" / "10.yaml")
    assert told(watch)
    assert watch.has_changed()
    watch.close()
