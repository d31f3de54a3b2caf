"""A draft as JSON. Keys are stable; new ones may be added."""

from typing import Any

from oomguard.propose.advice import HostFacts
from oomguard.propose.policy_draft import Draft, DraftRule, Origin, Regex, plain, render

FORMAT = 1


def findings_document(draft: Draft) -> dict[str, Any]:
    """Return a finding for each suggestion and each note, and the text of the policy."""
    findings = [_finding(one.name, plain(one.value), one.reason, one.sources) for one in draft.settings]
    for rule in draft.rules:
        finding = _finding("oom_score_adj", plain(rule.value), rule.reason)
        findings.append(finding | {"conditions": _conditions(rule), "scope": rule.scope})
    findings += [_finding(one.what, None, one.why, one.sources) for one in draft.notes]
    return {"findings": findings, "policy": render(draft)}


def import_document(draft: Draft) -> dict[str, Any]:
    """Return the sysctls, rules and notes, each with where it was read, and the text of the policy."""
    return {
        "sysctls": [{"name": one.name, "value": one.value, **_place(one.origin)} for one in draft.settings],
        "rules": [_rule(one) for one in draft.rules],
        "left_out": [{"what": one.what, "why": one.why, **_place(one.origin)} for one in draft.notes],
        "policy": render(draft),
    }


def _finding(target: str, value: object, reason: str, sources: tuple[str, ...] = ()) -> dict[str, Any]:
    found = {"target": target, "value": value, "reason": reason, "sources": sources}
    return found | {"conditions": None, "scope": None}


def _rule(rule: DraftRule) -> dict[str, Any]:
    return {
        "conditions": _conditions(rule),
        "scope": rule.scope,
        "oom_score_adj": plain(rule.value),
        "reason": rule.reason,
        **_place(rule.origin),
    }


def _conditions(rule: DraftRule) -> dict[str, Any]:
    return {
        key: [{"regex": item} if isinstance(item, Regex) else item for item in items]
        for key, items in rule.conditions.items()
    }


def _place(place: Origin | None) -> dict[str, Any]:
    if place is None:
        return {"file": None, "line": None, "last_line": None}
    return {
        "file": place.file or None,
        "line": place.line or None,
        "last_line": max(place.line, place.last_line) or None,
    }


def host_document(facts: HostFacts) -> dict[str, int | str | None]:
    """Return the figures behind the findings."""
    memory, peak, lasting = facts.memory, facts.peak, facts.lasting
    return {
        "total_bytes": memory.total_kib * 1024,
        "swap_bytes": memory.swap_total_kib * 1024,
        "huge_page_bytes": memory.hugetlb_kib * 1024,
        "committed_bytes": memory.committed_kib * 1024,
        "committed_peak_bytes": None if peak is None else peak.committed_kib * 1024,
        "peak_seconds": None if peak is None else int(peak.seconds),
        "lasting_peak_bytes": None if lasting is None else lasting.committed_kib * 1024,
        "lasting_peak_day": None if lasting is None else lasting.day,
    }
