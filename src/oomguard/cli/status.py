"""`oomguard status`: what is kept, what drifted and what was refused."""

import sys
import time
from typing import TYPE_CHECKING

from oomguard.cli.host import read_status
from oomguard.core.commit import MODE, STRICT, Memory, kib
from oomguard.core.policy import counted
from oomguard.core.process import Identity
from oomguard.core.text import span
from oomguard.kernel.procfs import Procfs
from oomguard.kernel.sysctl import observe_memory, read_sysctl
from oomguard.report.document import print_json
from oomguard.report.status_document import Document, StatusError

if TYPE_CHECKING:
    import argparse

    from rich.console import Console


def run(options: "argparse.Namespace") -> int:
    """Show the daemon's status file beside what the kernel says now."""
    procfs = Procfs(options.proc)
    damage = ""
    try:
        document = read_status(options.state_dir)
    except StatusError as error:  # what the kernel says is no less true
        document, damage = None, error.for_stderr
    running = document is not None and procfs.is_alive(
        Identity(document["pid"], document["start_time_ticks"])
    )
    memory = observe_memory(procfs)
    sysctls = [
        row | {"actual": read_sysctl(procfs, row["name"])}
        for row in (document["sysctls"] if document is not None else _declared(options))
    ]
    if options.json:
        print_json(
            {
                "running": running,
                "sysctls": sysctls,
                "memory": None if memory is None else memory._asdict(),
                "daemon": document,
            }
        )
    else:
        mode = read_sysctl(procfs, MODE)
        _print(document if running else None, sysctls, memory, mode, options.state_dir)
    if damage:
        print(damage, file=sys.stderr)
    return 1 if damage else 0


def _declared(options: "argparse.Namespace") -> list[Document]:
    from oomguard.policy.fault import PolicyError
    from oomguard.policy.load import load

    try:
        policy = load(options.policy).policy
    except PolicyError:
        return []
    return [
        {"name": one.name, "wanted": one.value, "granted": one.value, "source": one.source}
        for one in policy.sysctls
    ]


def _word(row: Document, actual: int | None) -> str:
    """Return how the actual value of a sysctl relates to the wanted one."""
    if actual is None:
        return "missing in this kernel"
    if actual == row["wanted"]:
        return ""
    return "all that the kernel granted" if actual == row["granted"] else "differs"


def _print(
    document: Document | None,
    sysctls: list[Document],
    memory: Memory | None,
    mode: int | None,
    state_dir: str,
) -> None:
    from oomguard.report.tables import console, table

    out = console()
    if document is None:
        _line(out, f"oomguard is not running (no daemon keeps {state_dir})", style="bold")
    else:
        _print_daemon(document, out)
    if sysctls:
        made = table("SYSCTL", "WANTED", "ACTUAL", "", right=("WANTED", "ACTUAL"))
        for row in sysctls:
            actual = row["actual"]
            shown = "-" if actual is None else str(actual)
            made.add_row(row["name"], str(row["wanted"]), shown, _word(row, actual))
        out.print(made)
    if memory is not None:
        _print_memory(memory, mode, out)
    if document is None:
        return
    if document["rules"]:
        made = table("RULE", "VALUE", "PROCESSES", "WHERE", right=("VALUE", "PROCESSES"))
        for rule in document["rules"]:
            where = rule["source"].rpartition("/")[2]
            made.add_row(rule["label"], rule["value"], str(rule["processes"]), where)
        out.print(made)
    for complaint in document["complaints"]:
        _line(
            out,
            f"{complaint['result']}: {complaint['subject']} → {complaint['wanted']}: {complaint['reason']} "
            f"({complaint['by']}; {complaint['tries']} times)",
            style="yellow",
        )
        if complaint["hint"]:
            _line(out, f"  {complaint['hint']}")
    if document["recent"]:
        _line(out, "\nLast adjustments", style="bold")
        for line in document["recent"][-10:]:
            _line(out, f"  {line}")


def _line(out: "Console", text: str, style: str | None = None) -> None:
    """Print a line as one: a terminal breaks it where it must, and who reads a file can search it."""
    out.print(text, style=style, soft_wrap=True)


def _print_daemon(document: Document, out: "Console") -> None:
    policy = document["policy"]
    age = span(time.time() - document["started_at"])
    _line(out, f"oomguard {document['version']} runs as pid {document['pid']}, for {age}", style="bold")
    rules = counted(policy["rules"], "rule")
    _line(out, f"policy    {', '.join(policy['files'])}: {rules} ({policy['digest'][:12]})")
    if policy["error"]:
        _line(out, f"rejected  {policy['error']}", style="red")
    counts = document["outcomes"]
    _line(
        out,
        f"changes   {counts['applied']} applied, {counts['refused']} refused, {counts['denied']} denied; "
        f"{counted(document['processes_held'], 'process', 'es')} held",
    )
    if document["kills"]:
        total = sum(row["count"] for row in document["kills"])
        by_rule = ", ".join(f"{row['count']} of {row['rule'] or 'no rule'}" for row in document["kills"][:5])
        is_grave = any(row["protected"] for row in document["kills"])
        text = f"killed    {counted(total, 'process', 'es')} by the kernel: {by_rule}"
        _line(out, f"{text}; see `oomguard postmortem`", style="red" if is_grave else "yellow")
    if document["throttled"]:
        _line(out, "throttled at its CPU limit: new processes get their values later", style="yellow")
    for limit in document["limits"]:
        _line(out, f"limited   {limit}", style="yellow")
    for target in document["contended"]:
        _line(out, f"contended {target}", style="yellow")


def _print_memory(memory: Memory, mode: int | None, out: "Console") -> None:
    from oomguard.report.tables import bar

    enforced = "enforced" if mode == STRICT else f"not enforced: overcommit_memory is {mode}"
    percent = 100 * memory.committed_kib // memory.commit_limit_kib if memory.commit_limit_kib else 0
    _line(
        out,
        f"\nCommitted {bar(memory.committed_kib, memory.commit_limit_kib)} {percent} %: "
        f"{kib(memory.committed_kib)} of {kib(memory.commit_limit_kib)} CommitLimit ({enforced})\n",
    )
