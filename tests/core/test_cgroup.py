"""Which unit a cgroup path belongs to."""

import pytest

from oomguard.core.cgroup import (
    budget_key,
    folders_above,
    in_system_service,
    is_container,
    is_system_service,
    parse_cgroup,
    system_unit,
    user_unit,
)

SESSION = "/user.slice/user-1000.slice/session-3.scope"
MANAGER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"0::/system.slice/ssh.service\n", "/system.slice/ssh.service"),
        (b"12:memory:/a\n1:name=systemd:/system.slice/x.service\n0::/\n", "/system.slice/x.service"),
        (b"4:memory:/docker/abc\n", "/"),
        (b"", "/"),
        (b"0::/a:b\n", "/a:b"),
    ],
)
def test_the_path_systemd_manages_is_read(raw: bytes, path: str) -> None:
    """Unified where there is nothing else, name=systemd on v1 and hybrid hosts."""
    assert parse_cgroup(raw) == path


@pytest.mark.parametrize("line_break", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r")
@pytest.mark.parametrize(
    "forged", ["1:name=systemd:/system.slice/ssh.service", "0::/system.slice/ssh.service"]
)
def test_a_users_cgroup_cannot_be_named_into_a_system_service(line_break: str, forged: str) -> None:
    """The kernel forbids only the newline in a name, and a user names the cgroups below his own."""
    path = f"{MANAGER}/x{line_break}{forged}"
    assert parse_cgroup(f"0::{path}\n".encode()) == path
    assert system_unit(path) == "user@1000.service"


@pytest.mark.parametrize(
    ("path", "system", "user"),
    [
        ("/system.slice/ssh.service", "ssh.service", ""),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", ""),
        (SESSION, "session-3.scope", ""),
        (f"{MANAGER}/app.slice/firefox.service", "user@1000.service", "firefox.service"),
        (f"{MANAGER}/init.scope", "user@1000.service", "init.scope"),
        (MANAGER, "user@1000.service", ""),
        ("/init.scope", "init.scope", ""),
        ("/", "", ""),
        ("/docker/abc", "", ""),
        ("/system.slice/_cgroup.service", "cgroup.service", ""),
        ("/system.slice/docker.service/x/y", "docker.service", ""),
    ],
)
def test_units_are_found_as_systemd_does(path: str, system: str, user: str) -> None:
    """Slices are passed over; a user's own units are never the system's."""
    assert (system_unit(path), user_unit(path)) == (system, user)


@pytest.mark.parametrize(
    ("path", "vouched"),
    [
        ("/system.slice/ssh.service", True),
        ("/system.slice/docker-abc.scope", False),
        (f"{MANAGER}/app.slice/ssh.service", False),
        ("/user.slice/ssh.service", False),
        ("/x/system.slice/ssh.service", False),
    ],
)
def test_only_services_below_system_slice_are_roots(path: str, *, vouched: bool) -> None:
    """A scope may be a container, and users have services of their own."""
    assert in_system_service(path) is vouched


@pytest.mark.parametrize(
    ("path", "is_itself"),
    [
        ("/system.slice/web.service", True),
        ("/system.slice/system-getty.slice/getty@tty1.service", True),
        ("/system.slice/web.service/libpod-payload-1/system.slice/web.service", False),
        ("/system.slice/web.service/web.service", False),
        ("/user.slice/web.service", False),
    ],
)
def test_a_cgroup_that_a_service_created_is_not_the_service(path: str, *, is_itself: bool) -> None:
    """Whatever it is called: a container may have a service of the same name."""
    assert is_system_service(path) is is_itself


@pytest.mark.parametrize(
    ("path", "uid", "key"),
    [
        (SESSION, 1000, "user-1000.slice"),
        (SESSION, 0, "user-1000.slice"),
        (f"{MANAGER}/app.slice/ssh.service", 100_000, "user-1000.slice"),
        ("/user.slice/user-0.slice/session-1.scope", 0, "user-0.slice"),
        ("/user.slice", 1000, "untrusted users"),
        ("/user.slice/other.scope", 1000, "untrusted users"),
        ("/system.slice/ssh.service", 0, "ssh.service"),
        ("/system.slice/system-postgresql.slice/postgresql@16-main.service", 0, "postgresql@16-main.service"),
        ("/system.slice/cron.service", 1000, "cron.service (unprivileged)"),
        ("/system.slice/cron.service", 100_000, "cron.service (unprivileged)"),
        ("/system.slice/docker-abc.scope", 0, "docker-abc.scope"),
        ("/system.slice/docker-abc.scope", 999, "docker-abc.scope (unprivileged)"),
        ("/machine.slice/libpod-abc.scope/a/b.scope", 100_000, "libpod-abc.scope (unprivileged)"),
        ("/kubepods.slice/kubepods-pod1.slice/cri-abc.scope", 101, "cri-abc.scope (unprivileged)"),
        ("/docker/abc", 0, "root"),
        ("/", 0, "root"),
        ("/", 1000, "untrusted users"),
    ],
)
def test_what_one_user_can_start_shares_one_budget(path: str, uid: int, key: str) -> None:
    """Whatever uids and cgroups the user takes; system services and root have budgets of their own."""
    assert budget_key(path, uid) == key


POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"
ROOTLESS = f"{MANAGER}/user.slice"


@pytest.mark.parametrize(
    ("path", "maker"),
    [
        ("/system.slice/docker-0123.scope", "/system.slice/containerd.service"),
        ("/docker/0123", "/system.slice/docker.service"),
        ("/machine.slice/libpod-0123.scope", "/machine.slice/libpod-conmon-0123.scope"),
        ("/machine.slice/libpod-0123.scope/container", "/machine.slice/libpod-conmon-0123.scope"),
        ("/system.slice/web.service/libpod-payload-0123", "/system.slice/web.service/runtime"),
        (f"{POD}/cri-containerd-0123.scope", "/system.slice/containerd.service"),
        (f"{POD}/crio-0123.scope/container", f"{POD}/crio-conmon-0123.scope"),
        ("/kubepods/burstable/pod1/0123", "/system.slice/containerd.service"),
        ("/lxc.payload.c1", "/lxc.monitor.c1"),
        ("/lxc.payload.c1/init.scope", "/lxc.monitor.c1"),
        ("/lxc/c1", "/"),
        ("/machine.slice/machine-x.scope/payload", "/machine.slice/machine-x.scope/supervisor"),
        ("/system.slice/web.service/payload/system.slice/inner.service", "/system.slice/web.service/runtime"),
        (
            "/machine.slice/systemd-nspawn@x.service/payload/init.scope",
            "/machine.slice/systemd-nspawn@x.service/supervisor",
        ),
    ],
)
def test_what_a_runtime_put_into_a_cgroup_of_its_own_is_a_container(path: str, maker: str) -> None:
    """Docker, Podman as root, Kubernetes, LXC, nspawn; not if a user could have made that cgroup."""
    assert is_container(path, is_roots=True, maker=maker)
    assert is_container(path, is_roots=None, maker=maker)
    assert not is_container(path, is_roots=False, maker=maker)
    assert not is_container(path, is_roots=True, maker=None)


@pytest.mark.parametrize(
    ("path", "maker"),
    [
        (SESSION, SESSION),
        (f"{MANAGER}/app.slice/app-chromium.scope", f"{MANAGER}/app.slice/app-chromium.scope"),
        (f"{ROOTLESS}/libpod-0123.scope/container", f"{ROOTLESS}/libpod-conmon-0123.scope"),
        ("/system.slice/cron.service", "/system.slice/cron.service"),
        ("/system.slice/private-pids.service", None),
        ("/system.slice/private-pids.service/main", None),
        ("/system.slice/run-r1.scope", "/system.slice/run-r1.scope"),
        ("/system.slice/slurmstepd.scope/job_1/task_0", "/system.slice/slurmstepd.scope/job_1/task_0"),
        ("/", "/"),
    ],
)
def test_any_other_pid_namespace_is_a_sandbox(path: str, maker: str | None) -> None:
    """A session's, a user's own service manager's, rootless containers, what a service makes for itself."""
    assert not is_container(path, is_roots=True, maker=maker)
    assert not is_container(path, is_roots=None, maker=maker)


@pytest.mark.parametrize(
    ("path", "above"),
    [
        ("/", []),
        ("/a", ["/"]),
        ("/a/b/c", ["/", "/a", "/a/b"]),
        ("", []),
    ],
)
def test_the_cgroups_above_one_begin_at_the_root(path: str, above: list[str]) -> None:
    """And do not include itself."""
    assert list(folders_above(path)) == above
