"""A report of the OOM killer as JSON. Keys are stable; new ones may be added."""

import json
import math
from functools import lru_cache
from typing import Any

from oomguard.core.text import legible, printable
from oomguard.oom.kill import Kill
from oomguard.oom.postmortem import Finding, Place, share_of
from oomguard.oom.report import Report, Task
from oomguard.oom.unread import Unread
from oomguard.report.change_document import rule_document
from oomguard.report.postmortem import Incident, candidates, facts, headline, moment
from oomguard.report.postmortem_before import before_document

FORMAT = 1


def incident_json(incident: Incident, *, limit: int = 0) -> str:
    """Return a report as an object of JSON in one line; `limit` keeps that many tasks, 0 all.

    There may be a million, so what a line of a kill alone tells takes no encoder: setting one up costs more.
    """
    finding, report, chosen = incident.finding, incident.finding.report, incident.finding.report.chosen
    killed = {kill.pid for kill in report.kills} if report.tasks else ()
    rows = {task.pid: task for task in report.tasks if task.pid in killed}
    kills = [_kill_json(kill, rows.get(kill.pid)) for kill in report.kills]
    where = (finding.constraint, report.oom_memcg, report.task_memcg, report.nodes)
    choice = chosen and {"pid": chosen.pid, "comm": printable(chosen.comm), "score": chosen.score}
    words = [_encode(f"{label}: {text}") for label, text in facts(incident)]
    return (
        f'{{"number": {incident.number}, "time": {_text(moment(report) if report.when else "")}'
        f', "uptime_seconds": {_NULL if report.uptime_seconds is None else report.uptime_seconds}'
        f', "host": {_text(report.host)}, "summary": {_encode(headline(finding))}'
        f', "explanation": [{", ".join(words)}]'
        f", {_cause_json(*where, _outcome_name(report), finding.why)}"
        f', "chosen": {_NULL if choice is None else _encode(choice)}'
        f', "given_by": {_NULL if incident.origin is None else _encode(incident.origin._asdict())}'
        f', "before": {_encode(before_document(report, incident.before)) if incident.before else _NULL}'
        f', "victim": {kills[0] if kills else _NULL}, "killed": [{", ".join(kills)}]'
        f", {_decision_json(incident, limit)}"
    )


_encode = json.JSONEncoder(check_circular=False).encode
_NULL = "null"


def _text(text: str) -> str:
    return _encode(printable(text)) if text else _NULL


@lru_cache(64)  # the same for each kill of a storm
def _cause_json(
    constraint: str | None, oom_memcg: str, task_memcg: str, nodes: str, outcome: str, why: str
) -> str:
    """Return what ran out as keys of JSON."""
    return _encode(
        {
            "constraint": constraint,
            "oom_memcg": printable(oom_memcg) or None,
            "task_memcg": printable(task_memcg) or None,
            "nodes": printable(nodes) or None,
            "outcome": outcome,
            "why": why,
        }
    )[1:-1]


def _decision_json(incident: Incident, limit: int) -> str:
    """Return the rest of the object. It is the same for all reports that are only the line of a kill."""
    if not incident.finding.is_bare:
        return _encode(_decision_document(incident, limit))[1:]
    if (decision := _DECISIONS.get(incident.policy)) is None:
        decision = _DECISIONS[incident.policy] = _encode(_decision_document(incident, limit))[1:]
    return decision


_DECISIONS: dict[str, str] = {}


def _decision_document(incident: Incident, limit: int) -> dict[str, Any]:
    """Return what only a report of several lines shows."""
    finding, report = incident.finding, incident.finding.report
    invoker, other = report.invoker, report.other
    page = report.memory.page_kib * 1024
    return {
        "release": printable(report.release) or None,
        "invoker": None
        if invoker is None
        else {
            "comm": printable(invoker.comm),
            "pid": invoker.pid,
            "order": invoker.order,
            "gfp_mask": printable(invoker.gfp_mask),
            "oom_score_adj": invoker.oom_score_adj,
        },
        "memory": _memory_document(finding),
        "killed_by": None
        if other is None
        else {
            "program": other.by,
            "victim": printable(other.victim),
            "reason": other.why or None,
            "words": printable(other.said),
        },
        "oom_group": printable(report.group) or None,
        "runner_up": None if finding.runner_up is None else finding.runner_up.task.pid,
        "largest": None if finding.largest is None else finding.largest.task.pid,
        "mixed": report.is_mixed,
        "suppressed": report.suppressed,
        "assumed": list(finding.assumed),
        "tasks": [_task_document(one, finding, page) for one in candidates(finding)[: limit or None]],
        "policy": None if not incident.policy else _backtest_document(incident),
    }


def unread_document(line: Unread) -> dict[str, Any]:
    """Return a line that names a kill and is in no report as JSON."""
    return {"line": line.number, "why": line.why, "text": legible(line.text)}


def _outcome_name(report: Report) -> str:
    if report.kills or report.other is not None:
        return "killed"
    if "panic" in report.ending:
        return "panic"
    return "no-victim" if report.ending else "unknown"


def _memory_document(finding: Finding) -> dict[str, Any]:
    memory, page = finding.report.memory, finding.report.memory.page_kib * 1024
    free = memory.pages.get("free")
    return {
        "page_bytes": page,
        "ran_out_bytes": None if finding.total_pages is None else finding.total_pages * page,
        "pages_per_point": finding.point_pages,
        "ram_bytes": None if memory.total_pages is None else memory.total_pages * page,
        "free_bytes": None if free is None else free * page,
        "swap_total_bytes": None if memory.swap_total_kib is None else memory.swap_total_kib * 1024,
        "swap_free_bytes": None if memory.swap_free_kib is None else memory.swap_free_kib * 1024,
        "cgroup": {
            name: {
                "usage_bytes": amount.usage_kib * 1024,
                "limit_bytes": None if amount.limit_kib is None else amount.limit_kib * 1024,
            }
            for name, amount in memory.cgroup.items()
        },
        "pages": dict(memory.pages),
    }


def _kill_json(kill: Kill, row: Task | None) -> str:
    """Return a victim as JSON; what its line lacks is from its row in the task table."""
    uid, value = kill.uid, kill.oom_score_adj
    if row is not None:
        uid, value = (row.uid if uid is None else uid), (row.oom_score_adj if value is None else value)
    rss = (kill.anon_rss_kib, kill.file_rss_kib, kill.shmem_rss_kib)
    amounts = [one and one * 1024 for one in (kill.total_vm_kib, *rss, kill.page_tables_kib)]
    numbers = (_KILL % (uid, value, *amounts)).replace("None", _NULL)
    return f'{{"pid": {kill.pid}, "comm": {_encode(printable(kill.comm))}, {numbers}}}'


_KILL = (
    '"uid": %s, "oom_score_adj": %s, "total_vm_bytes": %s, "anon_rss_bytes": %s, "file_rss_bytes": %s,'
    ' "shmem_rss_bytes": %s, "page_table_bytes": %s'
)


def _task_document(one: Place, finding: Finding, page: int) -> dict[str, Any]:
    task = one.task
    share = share_of(one, finding)
    per_mille = None if share is None else math.floor(share * 1000)
    return {
        "place": one.place,
        "pid": task.pid,
        "uid": task.uid,
        "comm": printable(task.comm),
        "total_vm_bytes": task.total_vm * page,
        "rss_bytes": task.rss * page,
        "swap_bytes": task.swap * page,
        "page_table_bytes": task.page_tables * page,
        "oom_score_adj": task.oom_score_adj,
        "badness": one.badness,
        "badness_per_mille": per_mille,
    }


def _backtest_document(incident: Incident) -> dict[str, Any]:
    backtest = incident.backtest
    if backtest is None:
        return {"policy": printable(incident.policy), "result": "unknown", "victims": [], "open_rules": []}
    return {
        "policy": printable(incident.policy),
        "result": backtest.result,
        "victims": [
            {
                "pid": one.place.task.pid,
                "comm": printable(one.place.task.comm),
                "oom_score_adj": one.likely.value,
                **rule_document(one.likely.rule),
            }
            for one in backtest.victims
        ],
        "open_rules": [rule_document(rule) for rule in backtest.open_rules],
    }
