"""The Ansible role, run for real against this host, below a folder and beside a daemon of its own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pages import ROOT
from running import Program, oom_score_adj, running, wait_for_value

ROLES = ROOT / "etc" / "ansible" / "roles"
PLAYBOOK = shutil.which("ansible-playbook") or shutil.which("ansible-playbook", path=f"{sys.prefix}/bin")
NAME = "og-role-test"
RULE = "rules:\n  - name: {name}\n    oom_score_adj: {value}\n"

BY_SSH = """\
DOCUMENTATION = "{name: by_ssh, extends_documentation_fragment: [connection_pipelining], options: {}}"
import os
from ansible.plugins.connection.local import Connection as Local

class Connection(Local):
    transport = "by_ssh"

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        os.chown(out_path, 1000, 1000)
"""
"""As by ssh with `become: true`: commands run as root, but copied files belong to the user who logged in."""

needs_ansible = pytest.mark.skipif(PLAYBOOK is None, reason="ansible-core is missing: sh .ci/extras")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the role gives its files to root")


class Host:
    """What the role sees as a host: a folder with an /etc, and a daemon that keeps what is in there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        (self.root / "etc").mkdir(parents=True)
        self.policy = self.root / "etc" / "oomguard.yaml"
        self.drop_ins = self.root / "etc" / "oomguard.d"
        self._folder = folder
        (folder / "connections").mkdir()
        (folder / "connections" / "by_ssh.py").write_text(BY_SSH)

    def play(self, *options: str, state: Path, **variables: object) -> subprocess.CompletedProcess[str]:
        """Run the role with these variables."""
        settings = {
            "oomguard_root": str(self.root),
            "oomguard_command": f"{sys.prefix}/bin/oomguard",
            "oomguard_state_dir": str(state),
            "oomguard_patience": 5,
        }
        play = {
            "hosts": "localhost",
            "connection": "by_ssh",
            "gather_facts": False,
            "roles": [{"role": "oomguard", "vars": settings | variables}],
        }
        book = self._folder / "play.yml"
        book.write_text(yaml.safe_dump([play]))
        assert PLAYBOOK is not None
        return subprocess.run(
            [PLAYBOOK, "--inventory", "localhost,", *options, str(book)],
            env={
                **os.environ,
                "ANSIBLE_ROLES_PATH": str(ROLES),
                "ANSIBLE_CONNECTION_PLUGINS": str(self._folder / "connections"),
                "ANSIBLE_LOCAL_TEMP": str(self._folder / "local"),
                "ANSIBLE_REMOTE_TEMP": str(self._folder / "remote"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_NOCOLOR": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )


def changed(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many tasks changed something in a play that went well."""
    found = re.search(r"changed=(\d+) .* failed=0", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found, done.stdout
    return int(found[1])


@pytest.mark.packaging
@needs_ansible
@needs_root
def test_a_policy_is_rolled_out_once_and_a_bad_one_never(tmp_path: Path) -> None:
    """Check mode, a change, the same again, a policy that is not valid, and away again."""
    host = Host(tmp_path)
    program = Program(tmp_path, NAME)
    pid = program.start("3600")
    good = {"50-trial": RULE.format(name=NAME, value=500)}
    try:
        with running(host.policy.parent, "", name="oomguard.yaml") as daemon:

            def play(*options: str, **variables: object) -> subprocess.CompletedProcess[str]:
                return host.play(*options, state=daemon.state, **variables)

            assert changed(play("--check", oomguard_drop_ins=good)) > 0
            assert not host.drop_ins.exists()

            assert changed(play(oomguard_drop_ins=good)) > 0
            wait_for_value(pid, 500)
            assert (host.drop_ins / "50-trial.yaml").stat().st_uid == 0
            assert changed(play(oomguard_drop_ins=good)) == 0
            (host.drop_ins / "50-trial.yaml").chmod(0o664)  # as somebody did: the daemon rejects it
            assert changed(play(oomguard_drop_ins=good)) == 1
            assert (host.drop_ins / "50-trial.yaml").stat().st_mode & 0o777 == 0o644
            assert oom_score_adj(pid) == 500

            bad = play(oomguard_drop_ins={"50-trial": RULE.format(name=NAME, value=5000)})
            assert bad.returncode != 0
            assert "must be an integer from -1000 to 1000" in bad.stdout
            assert (host.drop_ins / "50-trial.yaml").read_text() == good["50-trial"]

            clash = play(
                oomguard_drop_ins={"60-a": "resync_interval: 50\n", "60-b": "resync_interval: 40\n"},
            )
            assert clash.returncode != 0, "valid one by one, and not together"
            assert oom_score_adj(pid) == 500

            (host.drop_ins / "90-default.yaml").symlink_to("/dev/null")
            assert changed(play(oomguard_policy="# nothing\n", oomguard_only_these_drop_ins=True)) > 0
            wait_for_value(pid, 0)
            assert list(host.drop_ins.iterdir()) == []
    finally:
        program.end()


@pytest.mark.packaging
@needs_ansible
def test_a_host_without_the_package_is_checked_without_a_failure(tmp_path: Path) -> None:
    """`--check` copies no package, so apt could not find it, nor systemd the unit."""
    package = tmp_path / f"{tmp_path.parent.name}-{tmp_path.name}.deb"
    package.touch()
    settings = {"oomguard_root": "", "oomguard_command": str(tmp_path / "oomguard")}
    rules = {"50-trial": RULE.format(name=NAME, value=500)}
    play = Host(tmp_path).play
    done = play("--check", state=tmp_path, oomguard_package=str(package), oomguard_drop_ins=rules, **settings)
    assert changed(done) >= 2


@pytest.mark.packaging
@needs_ansible
@needs_root
def test_a_daemon_that_does_not_run_fails_the_play(tmp_path: Path) -> None:
    """A rollout stops at the first host on which the policy is not in force."""
    host = Host(tmp_path)
    host.policy.write_text("")
    host.policy.chmod(0o644)
    done = host.play(state=tmp_path / "state", oomguard_patience=1)
    assert done.returncode != 0
    assert changed(host.play(state=tmp_path / "state", oomguard_service=False)) == 0


@pytest.mark.packaging
@needs_ansible
@needs_root
def test_a_sysctl_that_is_not_in_force_fails_the_play(tmp_path: Path) -> None:
    """Though the daemon has loaded the policy: what the kernel denies, as here, or oomguard refuses."""
    host = Host(tmp_path)
    read_only = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"'
    wrapper = ["unshare", "--mount", "sh", "-ec", read_only, "sh"]
    with running(host.policy.parent, "", name="oomguard.yaml", wrapper=wrapper) as daemon:
        swappiness = int(Path("/proc/sys/vm/swappiness").read_text())
        wanted = f"vm: {{swappiness: {swappiness + 1}}}\n"
        done = host.play(state=daemon.state, oomguard_policy=wanted, oomguard_patience=3)
        assert done.returncode != 0
        assert "Wait until its sysctls are in force" in done.stdout
        assert '"target": "vm.swappiness"' in done.stdout.replace("\\", "")
        wanted = f"vm: {{swappiness: {swappiness}}}\n"
        assert changed(host.play(state=daemon.state, oomguard_policy=wanted)) == 1


def test_the_example_names_variables_that_the_role_has() -> None:
    """And a role that there is."""
    (play,) = yaml.safe_load((ROLES.parent / "site.yml").read_text())
    defaults = yaml.safe_load((ROLES / "oomguard/defaults/main.yml").read_text())
    (role,) = play["roles"]
    assert (ROLES / role["role"]).is_dir()
    assert set(role["vars"]) <= set(defaults)
