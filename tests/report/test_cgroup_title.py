"""Short names of cgroups, as people know them."""

import pytest

from oomguard.report.cgroup_title import cgroup_title

ID = "25a38b5b8d556d79" * 4
POD = "5931aa75_4603_4e65_b552_7c71cf55cfb5"


@pytest.mark.parametrize(
    ("path", "title"),
    [
        ("", ""),
        ("/", "/"),
        ("/lxc/web", "/lxc/web"),
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/nginx.service/worker", "nginx.service/worker"),
        ("/user.slice/user-1000.slice", "user-1000.slice"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope (uid 1000)"),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service (uid 1000)"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope",
            "app-firefox.scope (uid 1000)",
        ),
        (
            f"/user.slice/user-1000.slice/user@1000.service/libpod-{ID}.scope",
            "container 25a38b5b (uid 1000)",
        ),
        ("/system.slice/app.service/sshd.service", "app.service/sshd.service"),
        ("/lxc/web/sshd.service", "/lxc/web/sshd.service"),
        (f"/docker/{ID}/system.slice/sshd.service", "container 25a38b5b/system.slice/sshd.service"),
        (f"/kubepods.slice/kubepods-pod{POD}.slice/sshd.service", "pod 5931aa75/sshd.service"),
        (f"/system.slice/app.service/{'a' * 200}", f"app.service/…{'a' * 35}"),
        ("/machine.slice", "machine.slice"),
        (f"/system.slice/docker-{ID}.scope", "container 25a38b5b"),
        (f"/docker/{ID}/worker", "container 25a38b5b/worker"),
        (f"/machine.slice/libpod-{ID}.scope", "container 25a38b5b"),
        (f"/kubepods.slice/kubepods-burstable-pod{POD}.slice", "pod 5931aa75"),
        (
            f"/kubepods.slice/kubepods-pod{POD}.slice/cri-containerd-{ID}.scope",
            "pod 5931aa75 (container 25a38b5b)",
        ),
        (f"/kubepods/burstable/pod{POD.replace('_', '-')}/{ID}", "pod 5931aa75 (container 25a38b5b)"),
        (f"/jobs/{'a' * 40}/batch", "…/batch"),
        (f"/jobs/{'a' * 40}", f"…{'a' * 35}"),
        ("/a\n.service", "a\\n.service"),
    ],
)
def test_cgroup_is_called_by_its_unit_pod_or_container(path: str, title: str) -> None:
    """Anything else by the end of its path."""
    assert cgroup_title(path) == title
