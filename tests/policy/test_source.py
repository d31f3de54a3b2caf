"""Which files are read as a policy, and which are not."""

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from oomguard.core.policy import Layer, drop_in_folder, layers
from oomguard.core.serialize import decode, encode
from oomguard.policy.fault import Fault, PolicyError
from oomguard.policy.load import load, parse
from oomguard.policy.source import SIZE_LIMIT, read_alone, read_layers, read_sources

from .conftest import Install, needs_root

if TYPE_CHECKING:
    from pathlib import Path


def _faults(path: str) -> list[Fault]:
    return [source.fault for source in read_sources(path) if source.fault is not None]


def _codes(path: str) -> list[str]:
    return [fault.code for fault in _faults(path)]


def test_a_policy_that_belongs_to_us_is_read(install: Install) -> None:
    """The content comes back as it is."""
    path = install("rules: []\n")
    (source,) = read_sources(path)
    assert (source.file, source.content, source.fault) == (path, b"rules: []\n", None)


def test_a_missing_policy_is_a_fault_with_a_way_out(tmp_path: "Path") -> None:
    """The fault names the file, and a policy that would do."""
    (fault,) = _faults(str(tmp_path / "policy.yaml"))
    assert str(fault) == f"{tmp_path}/policy.yaml: no such file"
    assert "`oomguard advise` suggests one" in fault.hint
    assert fault.code == "missing-file"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o777])
def test_a_policy_that_others_may_write_is_refused(install: Install, mode: int) -> None:
    """Whoever may write the policy decides who is killed."""
    path = install("{}")
    os.chmod(path, mode)
    (fault,) = _faults(path)
    assert fault.code == "writable-by-others"
    assert f"mode {mode:04o}" in fault.message
    assert fault.hint == f"check its content, then run: chmod go-w {path}"


@needs_root
def test_a_policy_that_belongs_to_somebody_else_is_refused(install: Install) -> None:
    """The owner is named by uid, and the way out is a chown."""
    path = install("{}")
    os.chown(path, 1234, 0)
    (fault,) = _faults(path)
    assert fault.code == "wrong-owner"
    assert "must belong to root, got uid 1234" in fault.message
    assert "chown root:" in fault.hint


@needs_root
def test_the_owner_of_a_symlink_does_not_count_but_its_target_does(
    install: Install, tmp_path: "Path"
) -> None:
    """A link is followed, and what it leads to must be root's."""
    path = install("{}")
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    os.chown(link, 1234, 0, follow_symlinks=False)
    assert _codes(str(link)) == []
    os.chown(path, 1234, 0)
    assert _codes(str(link)) == ["wrong-owner"]


def test_a_symlink_that_leads_nowhere_is_a_missing_file(tmp_path: "Path") -> None:
    """With a message of its own."""
    link = tmp_path / "policy.yaml"
    link.symlink_to("nowhere")
    assert _codes(str(link)) == ["missing-file"]
    (source,) = read_alone(str(link))
    assert source.fault is not None
    assert source.fault.message == "is a link to nowhere, which does not exist"
    assert "advise" not in source.fault.hint  # a new file in its place is not what was meant


def test_symlinks_in_a_circle_are_a_fault(tmp_path: "Path") -> None:
    """The system's own words say why the file cannot be read."""
    link = tmp_path / "policy.yaml"
    link.symlink_to(link)
    (fault,) = _faults(str(link))
    assert fault.message == "cannot be read: Too many levels of symbolic links"
    assert fault.hint == "point the link at a file: now it leads back to itself"


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: "Path") -> None:
    """Opening a FIFO would block for ever; the daemon's start must not."""
    path = tmp_path / "policy.yaml"
    os.mkfifo(path, 0o600)
    (fault,) = _faults(str(path))
    assert fault.message == "must be a regular file, but is a FIFO"


def test_what_is_no_file_among_drop_ins_is_to_be_removed(install: Install, tmp_path: "Path") -> None:
    """Nobody named it, so no other file is to be named."""
    path = install("{}", a="{}")
    (tmp_path / "policy.d" / "b.yaml").mkdir()
    (fault,) = _faults(str(path))
    assert fault.hint == "remove it, or give it a name that does not end in .yaml"


def test_folders_devices_and_sockets_are_refused(tmp_path: "Path") -> None:
    """What is no regular file holds no policy."""
    folder = tmp_path / "policy.yaml"
    folder.mkdir()
    assert _codes(str(folder)) == ["not-a-file"]
    assert _codes("/dev/zero") == ["not-a-file"]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert _codes(str(tmp_path / "socket")) == ["unreadable"]  # open(2) itself says ENXIO


def test_a_file_of_the_size_limit_is_read_and_one_byte_more_is_refused(install: Install) -> None:
    """The limit is exact."""
    path = install(b"#" * SIZE_LIMIT)
    assert _codes(path) == []
    with open(path, "ab") as file:
        file.write(b"#")
    assert _codes(path) == ["too-large"]


def test_drop_ins_are_read_before_the_main_file_in_the_order_of_their_names(install: Install) -> None:
    """What comes first wins. `--policy FILE` has no other layers."""
    path = install("{}", b="{}", a="{}", c="{}")
    assert [(os.path.basename(source.file), source.layer) for source in read_sources(path)] == [
        ("a.yaml", 0),
        ("b.yaml", 0),
        ("c.yaml", 0),
        ("policy.yaml", 1),
    ]


def test_the_policy_of_a_host_has_layers_below_it() -> None:
    """No other policy has."""
    assert layers("/etc/oomguard.yaml") == (
        Layer("/etc/oomguard.d"),
        Layer("/etc/oomguard.yaml", is_folder=False),
        Layer("/run/oomguard.d"),
        Layer("/usr/lib/oomguard.d"),
    )
    assert layers("/etc/a.yaml") == (Layer("/etc/a.d"), Layer("/etc/a.yaml", is_folder=False))


class Layered:
    """A host's layers in a folder of their own."""

    def __init__(self, root: "Path") -> None:
        self.root = root
        self.layers = tuple(
            Layer(f"{root}/{path}", is_folder=path.endswith(".d"))
            for path in ("etc/oomguard.d", "etc/oomguard.yaml", "run/oomguard.d", "usr/oomguard.d")
        )
        (root / "etc").mkdir()

    def put(self, file: str, text: str) -> None:
        """Write a file, with its folder."""
        (self.root / file).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        (self.root / file).write_text(text)
        (self.root / file).chmod(0o644)

    def mask(self, file: str, target: str = "/dev/null") -> None:
        """Put a link there."""
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).symlink_to(target)

    def load(self) -> list[str]:
        """Return the files that count."""
        return [os.path.relpath(file, self.root) for file in parse(read_layers(self.layers)).policy.files]


@pytest.fixture
def host(tmp_path: "Path") -> Layered:
    """Return a host with a main file and a file of the vendor."""
    made = Layered(tmp_path)
    made.put("etc/oomguard.yaml", "# mine\n")
    made.put("usr/oomguard.d/90-default.yaml", "force: true\n")
    return made


def test_a_file_replaces_those_of_its_name_in_lower_layers(host: Layered) -> None:
    """Whatever is in them. The main file has no name that another could have."""
    host.put("run/oomguard.d/90-default.yaml", "nonsense: {")
    host.put("run/oomguard.d/oomguard.yaml", "# another\n")
    host.put("etc/oomguard.d/90-default.yaml", "# nothing\n")
    host.put("etc/oomguard.d/oomguard.yaml", "# one more\n")
    assert host.load() == [
        "etc/oomguard.d/90-default.yaml",
        "etc/oomguard.d/oomguard.yaml",
        "etc/oomguard.yaml",
    ]


def test_a_link_to_dev_null_masks_the_files_of_its_name_below(host: Layered) -> None:
    """However it leads there. It is no empty file, of which a warning tells."""
    host.mask("run/oomguard.d/90-default.yaml")
    assert host.load() == ["etc/oomguard.yaml"]
    host.put("etc/oomguard.d/90-default.yaml", "# on top of the mask\n")
    assert host.load() == ["etc/oomguard.d/90-default.yaml", "etc/oomguard.yaml"]
    (host.root / "run/oomguard.d/90-default.yaml").unlink()
    host.mask("etc/oomguard.d/20.yaml", "../../run/oomguard.d/link")
    host.mask("run/oomguard.d/link", os.path.relpath("/dev/null", host.root / "run/oomguard.d"))
    host.put("usr/oomguard.d/20.yaml", "nonsense: {")
    policy, warnings = parse(read_layers(host.layers))
    assert (len(policy.files), warnings) == (2, ())


def test_only_a_link_to_dev_null_masks(host: Layered) -> None:
    """Other devices, and /dev/null as the main file, are mistakes."""
    host.mask("etc/oomguard.d/90-default.yaml", "/dev/zero")
    (host.root / "etc/oomguard.yaml").unlink()
    host.mask("etc/oomguard.yaml")
    with pytest.raises(PolicyError) as caught:
        host.load()
    assert [fault.code for fault in caught.value.faults] == ["not-a-file", "not-a-file"]


def test_the_main_file_may_be_missing_if_another_layer_has_a_file(host: Layered) -> None:
    """As on an image with an empty /etc. Not if there is nothing, nor as a link that leads nowhere."""
    main = host.root / "etc/oomguard.yaml"
    main.unlink()
    assert host.load() == ["usr/oomguard.d/90-default.yaml"]
    main.symlink_to("nowhere")
    with pytest.raises(PolicyError, match=r"oomguard\.yaml: is a link to nowhere, which does not exist"):
        host.load()
    main.unlink()
    (host.root / "usr/oomguard.d/90-default.yaml").rename(host.root / "usr/oomguard.d/not-read.yml")
    with pytest.raises(PolicyError, match=r"oomguard\.yaml: no such file"):
        host.load()


def test_a_folder_of_any_layer_that_others_may_write_is_refused(host: Layered) -> None:
    """Those above it are warned of."""
    (host.root / "usr").chmod(0o777)
    assert [fault.code for fault in parse(read_layers(host.layers)).warnings] == ["open-folder"]
    host.put("run/oomguard.d/a.yaml", "# a\n")
    (host.root / "run/oomguard.d").chmod(0o777)
    with pytest.raises(PolicyError) as caught:
        host.load()
    refused = caught.value.faults[0]
    assert (refused.file, refused.code) == (f"{host.root}/run/oomguard.d", "writable-by-others")


def test_a_folder_above_that_others_may_write_is_warned_of(install: Install, tmp_path: "Path") -> None:
    """They can put another file of root's in the policy's place; the policy is read all the same."""
    path = install("force: true")
    tmp_path.chmod(0o775)
    policy, (warning,) = load(path)
    assert policy.force
    assert (warning.file, warning.code, warning.severity) == (str(tmp_path), "open-folder", "warning")
    assert "makes it writable by group" in warning.message
    before = policy.digest
    tmp_path.chmod(0o1777)  # sticky, as /tmp: nobody renames what is another's
    policy, warnings = load(path)
    assert warnings == ()
    assert policy.digest == before


@needs_root
def test_a_folder_above_that_is_somebody_elses_is_warned_of(install: Install, tmp_path: "Path") -> None:
    """On the way to a link, and on the way to what it leads to."""
    path = install("{}")
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    link = folder / "policy.yaml"
    link.symlink_to(path)
    os.chown(folder, 1234, 1234)
    (warning,) = load(str(link)).warnings
    assert (warning.file, warning.code) == (str(folder), "open-folder")
    assert warning.message.startswith("belongs to uid 1234: ")
    os.chown(folder, 0, 0)
    assert load(str(link)).warnings == ()
    os.chown(tmp_path, 1234, 1234)
    assert [fault.file for fault in load(str(link)).warnings] == [str(tmp_path)]


@needs_root
def test_a_folder_on_a_read_only_mount_is_no_danger(tmp_path: "Path") -> None:
    """As the volume of a ConfigMap, whose mode is 0777."""
    volume = tmp_path / "volume"
    volume.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", volume], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (volume / "policy.yaml").write_text("{}")
        volume.chmod(0o777)
        assert [fault.code for fault in load(f"{volume}/policy.yaml").warnings] == ["open-folder"]
        subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
        assert load(f"{volume}/policy.yaml").warnings == ()
    finally:
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_what_editors_leave_behind_is_no_drop_in(install: Install, tmp_path: "Path") -> None:
    """Hidden files, backups and swap files are passed over."""
    path = install("{}", a="{}")
    for name in (".#a.yaml", ".a.yaml.swp", "a.yaml~", "#a.yaml#", "a.yaml.dpkg-old", "README", ".yaml"):
        (tmp_path / "policy.d" / name).write_text("no policy: at all")
    assert len(read_sources(path)) == 2


@pytest.mark.parametrize("name", ["mine.yml", "mine.YAML", "mine.conf", "mine"])
def test_a_drop_in_with_another_ending_is_not_read_and_said_to_be_so(
    install: Install, tmp_path: "Path", name: str
) -> None:
    """Two letters less are easily overlooked, and the rules in there would silently be missing."""
    path = install("{}", a="{}")
    (tmp_path / "policy.d" / "folder").mkdir()
    (tmp_path / "policy.d" / name).write_text("force: true")
    policy, (warning,) = load(path)
    assert policy.force is False
    message = "not read: the name of a policy file ends in .yaml"
    assert str(warning) == f"{tmp_path}/policy.d/{name}: warning: {message}"


def test_a_main_file_with_another_ending_is_not_read_and_said_to_be_so(
    install: Install, tmp_path: "Path"
) -> None:
    """It may stand beside the one that counts, or in its place while a lower layer has a file."""
    path = install("{}", a="{}")
    other = tmp_path / "policy.yml"
    other.write_text("force: true")
    policy, (warning,) = load(path)
    assert policy.force is False
    assert (warning.file, warning.code) == (str(other), "ignored-file")
    os.unlink(path)
    wanted = (Layer(path, is_folder=False), Layer(f"{tmp_path}/policy.d"))
    assert [source.file for source in read_layers(wanted) if source.fault] == [str(other)]
    assert load(str(other)).policy.force, "it is read if it is named"


def test_a_drop_in_may_have_any_name(install: Install, tmp_path: "Path") -> None:
    """Its name is escaped where it is said, and survives the way to the daemon."""
    path = install("{}", a="{}")
    name = os.fsencode(tmp_path / "policy.d") + b"/\xff\x1b\n.yaml"
    with open(name, "w") as file:
        file.write("rules: [{name: a, oom_score_adj: 1}]")
    os.chmod(name, 0o644)
    policy, _ = load(path)
    assert decode(encode(policy)) == policy
    with open(name, "w") as file:
        file.write("a: 1")
    with pytest.raises(PolicyError) as caught:
        load(path)
    assert str(caught.value).splitlines()[0].endswith(r"/policy.d/\xff\x1b\n.yaml:1:1: unknown key a")


def test_a_drop_in_folder_that_others_may_write_is_refused(install: Install, tmp_path: "Path") -> None:
    """Who may write the folder may add rules; nothing in there is read."""
    path = install("{}", a="rules: []")
    (tmp_path / "policy.d").chmod(0o775)
    (fault,) = _faults(path)
    assert (fault.file, fault.code) == (str(tmp_path / "policy.d"), "writable-by-others")
    assert len(read_sources(path)) == 2


def test_a_drop_in_folder_that_is_a_file_is_a_fault(install: Install, tmp_path: "Path") -> None:
    """A drop-in folder is a folder."""
    path = install("{}")
    (tmp_path / "policy.d").write_text("")
    (fault,) = _faults(path)
    assert fault.message == "cannot be read: Not a directory"


def test_a_bad_drop_in_does_not_hide_the_others(install: Install, tmp_path: "Path") -> None:
    """Faults of reading and of content are reported in one run, in the order of the files."""
    path = install("force: maybe", a="", b="vm: 3")
    (tmp_path / "policy.d" / "a.yaml").chmod(0o666)
    with pytest.raises(PolicyError) as caught:
        load(path)
    found = [(os.path.basename(fault.file), fault.code) for fault in caught.value.faults]
    assert found == [
        ("a.yaml", "writable-by-others"),
        ("b.yaml", "wrong-type"),
        ("policy.yaml", "wrong-type"),
    ]


def test_no_descriptor_stays_open(install: Install) -> None:
    """Reading leaves the process as it was."""
    path = install("{}", a="{}", b="{}")
    before = os.listdir("/proc/self/fd")
    read_sources(path)
    assert os.listdir("/proc/self/fd") == before


def test_the_drop_in_folder_stands_beside_the_policy() -> None:
    """Its name is the policy's, with another ending."""
    assert drop_in_folder("/etc/oomguard.yaml") == "/etc/oomguard.d"
    assert drop_in_folder("/etc/oomguard.yml") == "/etc/oomguard.d"
    assert drop_in_folder("policy") == "policy.d"
