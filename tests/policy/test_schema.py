"""The JSON Schema: what editors are told agrees with what the loader does."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from oomguard.core.host import Host
from oomguard.core.policy import Policy
from oomguard.core.sysctl import SYSCTLS
from oomguard.policy.cases.case_file import parse_cases
from oomguard.policy.cases.case_model import CaseFile
from oomguard.policy.fault import PolicyError
from oomguard.policy.language import models
from oomguard.policy.load import load, parse
from oomguard.policy.model import Document
from oomguard.policy.schema import SCHEMA_ID, cases_schema, json_schema
from oomguard.policy.source import Source

from .conftest import sources

_ETC = Path(__file__).parents[2] / "etc"
_MAIN, _VENDOR = _ETC / "oomguard.yaml", _ETC / "90-default.yaml"

_VALID = (
    "vm: {overcommit_memory: 2, overcommit_ratio: 80, page-cluster: 0}\nkernel: {panic: -1}\n",
    "vm: {admin_reserve_kbytes: 18446744073709551615}",
    "vm: {commit_limit: 90%, min_free_kbytes: 0.5%, admin_reserve_kbytes: 512MiB}",
    "vm: {commit_limit: {leave: 8GiB}, min_free_kbytes: {ram: 3%, min: 64MiB, max: 2 GiB}}",
    "vm: {commit_limit: 48GiB, max_map_count: {at_least: 262144}, user_reserve_kbytes: {at_most: 1GiB}}",
    "when: {memory: '>= 64GiB', swap: none, hostname: 'db-*', kernel: '>= 6.6', container: false}",
    "when: {memory: '>= 16 GiB, < 1.5TiB', swap: '>1GiB', hostname: [a, b], kernel: '> 5, <6.12.3'}",
    "commit_headroom: 0\nforce: false\nresync_interval: 86400\n",
    "rules: []",
    "# nothing but comments\n",
    "null",
    "~",
    "vm: {swappiness: {at_most: 200}, watermark_scale_factor: {at_least: 1}, min_free_kbytes: {at_most: 3%}}",
    "vm:\n  # swappiness: 10\nkernel:\nrules:\n",
    "rules: [{name: '*', oom_score_adj: keep}]",
    "rules: [{name: 'file:// Content', oom_score_adj: 1}]",
    "vm: {percpu_pagelist_high_fraction: 0}",
    "vm: {percpu_pagelist_high_fraction: 8}",
    "rules: [{name: [a, 'b c', '[x]'], user: [root, 0, '*a', 1a, '١٢'], oom_score_adj: {at_most: -1000}}]",
    "rules: [{user: 4294967294, oom_score_adj: {at_least: 1000}, scope: main, children: inherit}]",
    "rules: [{unit: ['a*', '*', x.service], user_unit: y.scope, oom_score_adj: 1000, trust: name}]",
    'rules: [{cgroup: /a, exe: ["*/b", "/a\\nb"], cmdline: "^ x ", oom_score_adj: -1000, containers: true}]',
)

_INVALID = (
    "vm: {swappiness: 201}",
    "vm: {swappiness: -1}",
    "vm: {swapiness: 1}",
    "vm: {drop_caches: 1}",
    "vm: {percpu_pagelist_high_fraction: 7}",
    "vm: {swappiness: '1'}",
    "vm: {swappiness: true}",
    "vm: ''",
    "kernel: {panic: -2}",
    "vm: {commit_limit: 8388608}",
    "when: {}",
    "when: {memory: 64GiB}",
    "when: {memory: '>= 64GB'}",
    "when: {swap: any}",
    "when: {hostname: []}",
    "when: {hostname: 'a '}",
    "when: {hostname: ['']}",
    "when: {kernel: '>= 6.6-rc1'}",
    "when: {kernel: 6.6}",
    "when: {container: 1}",
    "when: {os: debian}",
    "vm: {commit_limit: {leave: 10%}}",
    "vm: {min_free_kbytes: 8GB}",
    "vm: {min_free_kbytes: 150%}",
    "vm: {min_free_kbytes: -3%}",
    "vm: {min_free_kbytes: {min: 64MiB}}",
    "vm: {min_free_kbytes: {ram: 3%, at_least: 1}}",
    "vm: {min_free_kbytes: {ram: 3}}",
    "vm: {overcommit_kbytes: 90%}",
    "vm: {swappiness: 10%}",
    "vm: {swappiness: {}}",
    "vm: {swappiness: {at_least: 1, at_most: 2}}",
    "vm: {overcommit_memory: {at_least: 1}}",
    "vm: {swappiness: {at_most: 500}}",
    "vm: {watermark_scale_factor: {at_least: 0}}",
    "vm: {min_free_kbytes: {at_least: 2147483648}}",
    "vm: {dirty_bytes: {at_most: 1GiB}}",
    "commit_headroom: 1001",
    "resync_interval: 0",
    "resync_interval: 86401",
    "force: 1",
    "nmae: 1",
    "[]",
    "rules: {}",
    "rules: [{name: a}]",
    "rules: [{oom_score_adj: 1}]",
    "rules: [{name: a, oom_score_adj: 1001}]",
    "rules: [{name: a, oom_score_adj: -1001}]",
    "rules: [{name: a, oom_score_adj: keeep}]",
    "rules: [{name: a, oom_score_adj: {}}]",
    "rules: [{name: a, oom_score_adj: {at_most: 1, at_least: 1}}]",
    "rules: [{name: a, oom_score_adj: {at_most: -1001}}]",
    "rules: [{name: '', oom_score_adj: 1}]",
    "rules: [{name: [], oom_score_adj: 1}]",
    "rules: [{name: ' a', oom_score_adj: 1}]",
    "rules: [{name: 7, oom_score_adj: 1}]",
    "rules: [{exe: a, oom_score_adj: 1}]",
    "rules: [{cgroup: a, oom_score_adj: 1}]",
    "rules: [{unit: a, oom_score_adj: 1}]",
    "rules: [{unit: a.timer, oom_score_adj: 1}]",
    "rules: [{unit: .service, oom_score_adj: 1}]",
    "rules: [{user_unit: .scope, oom_score_adj: 1}]",
    "rules: [{user: -1, oom_score_adj: 1}]",
    "rules: [{user: 4294967295, oom_score_adj: 1}]",
    "rules: [{user: 'a:b', oom_score_adj: 1}]",
    "rules: [{user: '1000', oom_score_adj: 1}]",
    "rules: [{name: a, scope: none, oom_score_adj: 1}]",
    "rules: [{name: a, children: none, oom_score_adj: 1}]",
    "rules: [{name: a, trust: none, oom_score_adj: 1}]",
    "rules: [{name: a, containers: 1, oom_score_adj: 1}]",
)


def _refused_by_schema(folder: Path, *arguments: str) -> set[str]:
    """Return the names of the files which check-jsonschema refuses."""
    schema = folder / "schema.json"
    schema.write_text(json.dumps(json_schema()))
    command = Path(sysconfig.get_path("scripts")) / "check-jsonschema"
    done = subprocess.run(
        [command, "--output-format", "json", "--schemafile", schema, *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    said = json.loads(done.stdout)
    assert not said.get("parse_errors")
    assert done.returncode == (0 if said["status"] == "ok" else 1)
    return {Path(error["filename"]).name for error in said.get("errors", [])}


def _write(folder: Path, policies: tuple[str, ...]) -> list[str]:
    paths = [folder / f"{number}.yaml" for number in range(len(policies))]
    for path, policy in zip(paths, policies, strict=True):
        path.write_text(policy)
    return [str(path) for path in paths]


@pytest.mark.parametrize("text", ["recorder: off", "pressure: off", "recorder: true", "recorder: false"])
def test_off_is_what_an_editor_takes_for_a_text(text: str) -> None:
    """YAML 1.2 knows true and false only."""
    key, _, said = text.partition(": ")
    for value in (said, yaml.safe_load(said)) if said == "off" else (yaml.safe_load(said),):
        jsonschema.validate({key: value}, json_schema())
    parse(sources(text))


def test_what_the_loader_accepts_the_schema_accepts(tmp_path: Path) -> None:
    """An editor never complains of a good policy."""
    for policy in _VALID:
        parse(sources(policy))
    assert _refused_by_schema(tmp_path, *_write(tmp_path, _VALID)) == set()


def test_simple_mistakes_are_refused_by_loader_and_schema_alike(tmp_path: Path) -> None:
    """An editor sees what the loader will say, before it says so."""
    for policy in _INVALID:
        with pytest.raises(PolicyError):
            parse(sources(policy))
    refused = _refused_by_schema(tmp_path, *_write(tmp_path, _INVALID))
    assert [_INVALID[number] for number in range(len(_INVALID)) if f"{number}.yaml" not in refused] == []


@pytest.mark.parametrize("file", [_MAIN, _VENDOR], ids=lambda file: file.name)
def test_the_shipped_files_are_valid_for_loader_and_schema(tmp_path: Path, file: Path) -> None:
    """They also warn of nothing, and editors find the schema in their first line."""
    assert load(str(file), host=Host(16 << 20)).warnings == ()
    assert _refused_by_schema(tmp_path, str(file)) == set()
    first = file.read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=/usr/share/oomguard/oomguard.schema.json"


def test_the_shipped_protections_are_safe_on_any_host() -> None:
    """They set no sysctl, and only ever lower, and nothing to where the kernel could not kill it."""
    policy, _ = load(str(_VENDOR))
    assert policy.sysctls == ()
    values = [rule.terms.value for rule in policy.rules if rule.terms.value.kind != "keep"]
    assert {value.kind for value in values} == {"at_most"}
    assert all(-900 <= value.number < 0 for value in values)
    assert {rule.terms.trust for rule in policy.rules} == {"verified"}


def test_a_rule_can_be_appended_to_the_shipped_protections() -> None:
    """As the README does with a copy."""
    policy = parse(sources(_VENDOR.read_text() + "  - name: sleep\n    oom_score_adj: 500\n")).policy
    assert policy.rules[-1].names == (b"sleep",)


def _uncommented(text: str, first: str, last: str) -> Policy:
    lines = text[text.index(f"\n# {first}\n") : text.index(last)].splitlines()
    return parse(sources("\n".join(line[2:] for line in lines))).policy


def test_the_shipped_main_file_is_the_administrators_alone() -> None:
    """All of it is comments, and whoever removes the # gets what they promise."""
    text = _MAIN.read_text()
    assert all(line.startswith("#") for line in text.split("\n") if line)
    assert len(_uncommented(text + "# end\n", "rules:", "# end").rules) == 3
    assert [one.name for one in _uncommented(text, "vm:", "# Before").sysctls] == [
        "vm.overcommit_memory",
        "vm.overcommit_ratio",
        "vm.panic_on_oom",
        "kernel.panic",
    ]
    fields = {"commit_headroom": "commit_headroom_percent", "resync_interval": "resync_interval_seconds"}
    for key in ("commit_headroom", "force", "resync_interval"):
        (shown,) = re.findall(rf"^# {key}: (\S+)$", text, re.MULTILINE)
        assert yaml.safe_load(shown) == getattr(Policy(), fields.get(key, key)), key


def test_case_files_that_are_read_are_those_that_the_schema_accepts() -> None:
    """The project's own, and those that oomguard refuses for what a schema can say."""
    mistakes = (
        "cases: []",
        "cases: [{case: a, processes: [{name: a, expect: -1001}]}]",
        "cases: [{case: a, processes: [{name: a, expect: {}}]}]",
        "cases: [{case: a, processes: [{expect: 1}]}]",
        "cases: [{case: a, processes: [{name: a, uid: 1}]}]",
        "cases: [{case: a, expect: {vm: {swapiness: 1}}}]",
        "policy: {rules: [{name: a}]}\ncases: [{case: a, expect: {vm: {swappiness: 1}}}]",
    )
    schema = cases_schema()
    own = sorted((Path(__file__).parents[1] / "cases").glob("*.yaml"))
    for path in own:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    for text in mistakes:
        with pytest.raises(PolicyError):
            parse_cases(Source("cases.yaml", text.encode()))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text), schema)


def test_the_schema_says_what_it_is() -> None:
    """Draft, name and title."""
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == SCHEMA_ID
    assert schema["title"] == "oomguard policy"


def test_every_key_is_described_with_an_example() -> None:
    """In every model of the language."""
    for keys, model in (models(Document) | models(CaseFile)).items():
        for name, field in model.model_fields.items():
            assert field.description, (keys, name)
            assert field.examples, (keys, name)


def test_every_sysctl_is_in_the_schema_with_its_range() -> None:
    """The table is the only source."""
    schema = json_schema()
    listed = {}
    for section in ("vm", "kernel"):
        name = schema["properties"][section]["anyOf"][0]["$ref"].rpartition("/")[2]
        for knob, described in schema["$defs"][name]["properties"].items():
            if knob == "commit_limit":
                continue
            number = described.get("oneOf", [described])[0]
            listed[f"{section}.{knob}"] = (number["minimum"], number["maximum"])
            assert SYSCTLS[f"{section}.{knob}"].summary in described["description"]
    assert listed == {row.name: (row.low, row.high) for row in SYSCTLS.values()}
