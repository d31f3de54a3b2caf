"""Logs that were written to take `postmortem` as long, or as much memory, as they can.

Each is a kind of text that costs a parser more than its length: what a regular expression goes back over,
what is looked for again and again, what is kept. `log(kind, size)` returns one of that many characters.
"""

import json
from collections.abc import Callable, Iterator
from itertools import count

_STAMP = "[    1.000000] "
_HEADER = "a invoked oom-killer: gfp_mask=0x0, order=0\n"
_LONG = 60_000
"""Characters of a long line: more than any that is parsed."""
_PARSED = 30_000
"""Characters of a line that is parsed still, and longer than any of the kernel's."""
_COLUMNS = "[ pid ]   uid  tgid total_vm      rss oom_score_adj name\n"


def _kill(comm: str, pid: int, *, message: str = "Out of memory: ") -> str:
    return f"{message}Killed process {pid} ({comm}) total-vm:9kB, anon-rss:9kB, UID:0 oom_score_adj:0\n"


def _context(path: str, *, cpuset: str = "/") -> str:
    return (
        f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={cpuset},mems_allowed=0,"
        f"oom_memcg={path},task_memcg={path},task=a,pid=1,uid=0\n"
    )


def _repeat(line: str) -> Iterator[str]:
    while True:
        yield line


def _reading(line: str) -> Iterator[str]:
    """Yield lines while a report is being read, of which each may be part."""
    while True:
        yield _HEADER
        yield from (line * 100,) * 40


def _victims() -> Iterator[str]:
    for pid in count(2):
        yield _STAMP + _kill("a", pid % 4_000_000)


def _storm() -> Iterator[str]:
    """Yield what the kernel prints for each kill beyond ten in five seconds."""
    for pid in count(100_000):
        yield (
            f"[{pid / 100:12.6f}] Memory cgroup out of memory: Killed process {pid % 4_000_000} (worker) "
            "total-vm:36000kB, anon-rss:12000kB, file-rss:0kB, shmem-rss:0kB, UID:33 pgtables:60kB "
            "oom_score_adj:0\n"
        )


def _short_victims() -> Iterator[str]:
    for pid in count(2):
        yield f"Killed process {pid % 4_000_000} (a)\n"


def _group() -> Iterator[str]:
    yield _kill("a", 1) + "Tasks in /a are going to be killed due to memory.oom.group set\n"
    for pid in count(2):
        yield _kill("a", pid, message="Memory cgroup out of memory: ")


def _hosts() -> Iterator[str]:
    for number in count():
        yield f"Oct 12 19:00:20 h{number} kernel: {_HEADER}"


def _tables_of_hosts() -> Iterator[str]:
    hosts = [f"Oct 12 19:00:20 h{number} kernel: " for number in range(200)]
    yield from (host + _COLUMNS for host in hosts)
    for pid in count(1):
        yield from (f"{host}[{pid:5}] 100000 200000 300000 400000   0 some-longer-name\n" for host in hosts)


def _rows() -> Iterator[str]:
    yield _COLUMNS
    for pid in count(1):
        yield f"[{pid % 10**9}] 1 1 300000 400000 0 a{pid}\n"


def _short_tables() -> Iterator[str]:
    for pid in count(1):
        yield f"{_COLUMNS}[{pid % 10**9}] 1 1 1 1 0 a\n"


def _kills_of_two_lines() -> Iterator[str]:
    for pid in count(1):
        yield f"<4>Killed process {pid % 10**9} (a)\n    x\n"


def _columns() -> Iterator[str]:
    for number in count():
        yield "[ pid ] uid tgid total_vm rss " + f"c{number} " * 2000 + "name\n"


def _counters() -> Iterator[str]:
    yield _HEADER + "Mem-Info:\n"
    for number in count():
        yield "".join(
            f"x{letter}{'abcdefghij'[number // 10**at % 10]}:1 " for at, letter in enumerate("qwertz")
        )
        yield "\n"


def _stamps() -> Iterator[str]:
    """Yield lines of one time, and behind them a kill of each host at that time."""
    for number in count():
        yield f"Oct 12 19:00:20 a kernel: [{number:5}.000000] x\n" * 1000
        for host in range(200):
            yield f"Oct 12 19:00:20 a{host} kernel: [{number:5}.000000] Killed process 1 (a)\n"


def _unknown_prefixes() -> Iterator[str]:
    for number in count():
        word = "".join(chr(ord("a") + number // 26**at % 26) for at in range(4))
        yield f"{word} | Killed process 1 (a)\n" * 2


def _json(value: object) -> str:
    return json.dumps({"MESSAGE": value, "_TRANSPORT": "kernel"}, separators=(",", ":")) + "\n"


KINDS: dict[str, Callable[[], Iterator[str]]] = {
    "figures without an end": lambda: _repeat("Killed process 1 (a)" + "a:1kB" * 50 + "!\n"),
    "a long line of figures": lambda: _repeat("Killed process 1 (a)" + " a:1" * 4000 + "!\n"),
    "a long name": lambda: _repeat("Killed process 1 (" + ")" * _PARSED + " x\n"),
    "many cpusets": lambda: _repeat(_context("/a", cpuset=",mems_allowed=0" * 240)),
    "many memory cgroups": lambda: _repeat(_context(",task_memcg=/a" * 120)),
    "many memory cgroups in a long line": lambda: _repeat(_context(",oom_memcg=/a,task_memcg=/a" * 1000)),
    "many names of tasks": lambda: _repeat(_context("/a" + ",task=" * 600)),
    "many pids": lambda: _repeat(_context("/a" + ",pid=1" * 600)),
    "contexts that do not end": lambda: _repeat(
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)"
        + ",cpuset=a,mems_allowed=0,oom_memcg=/a,task_memcg=/a,pid=1" * 500
        + "\n"
    ),
    "many askers": lambda: _repeat("x invoked oom-killer: gfp_mask=0x0" * 850 + "\n"),
    "long masks": lambda: _repeat(
        "x invoked oom-killer: gfp_mask=0x0(" + "a" * 399 + ")" + " x" * 9000 + "\n"
    ),
    "many choices": lambda: _repeat("Kill process 1 (" + ") score 1 or " * 1200 + "\n"),
    "taint": lambda: _reading("CPU: 0 PID: 1 Comm: " + "Tainted: " * 8 + " " * _PARSED + "\n"),
    "cpuset lines": lambda: _reading("a" + " cpuset=a mems_allowed=0" * 1200 + "!\n"),
    "zones": lambda: _repeat(_HEADER + "Mem-Info:\n" + "Node 0 DMA free: managed:" * 600 + "\n"),
    "spaces in a row": lambda: _repeat(_COLUMNS + "[" + " " * _PARSED + "1]\n"),
    "a path in two sentences": lambda: _repeat("Task in " + " killed as a result of limit of" * 500 + "\n"),
    "a panic": lambda: _repeat("Kernel panic - not syncing: " + "out of memor" * 1300 + "\n"),
    "colors": lambda: _repeat("\x1b[" + "\x1b[1;1;1;1;1;1;1;1;1;1" * 700 + " oom-kill\n"),
    "escapes": lambda: _repeat("4,1,1,-;oom-kill" + "\\x0a" * 4000 + "\n"),
    "a long prefix": lambda: _repeat("a[1" * 5000 + " oom-kill\n"),
    "digits in a prefix": lambda: _repeat("a[" + "1" * _PARSED + " oom-kill\n"),
    "nothing but a line": lambda: _repeat("Killed process oom-kill total_vm "),
    "lines that are too long": lambda: _repeat("oom-kill:" * (_LONG // 9) + "\n"),
    "spaces": lambda: _repeat(" "),
    "empty lines": lambda: _repeat("\n"),
    "indented lines": lambda: _repeat(" \n"),
    "indented lines before a word": lambda: _repeat(" \n" * 20_000 + "oom-kill\n"),
    "indented lines before an indented word": lambda: _repeat(" \n" * 20_000 + " oom-kill\n"),
    "indented lines with a word": lambda: _repeat(" oom-kill\n"),
    "a message of many lines": lambda: _repeat(_STAMP + "oom-kill\n" + "               x\n" * 9000),
    "messages of many lines": lambda: _repeat("<4>oom-kill\n" + "   \n" * 80),
    "further lines of another program": lambda: _repeat(
        f"12:00:00 a b[7]: {'[1:1' * 98}\n" + "                 oom-kill\n" * 9000
    ),
    "further lines of fields": lambda: _repeat(f"x\n    A={'1' * 390}\n" + '     "oom-kill"\n' * 9000),
    "words": lambda: _repeat("oom-kill\n"),
    "kill words": lambda: _repeat("Killed process \n"),
    "askers": lambda: _repeat(_HEADER),
    "contexts": lambda: _repeat(_context("/a")),
    "headings": lambda: _repeat("[ pid ] uid tgid total_vm rss name\n"),
    "headings of many columns": _columns,
    "tables of one row": _short_tables,
    "kills of two lines": _kills_of_two_lines,
    "refusals": lambda: _repeat("__vm_enough_memory: pid: \n"),
    "empty lines in a report": lambda: _reading("\n"),
    "short lines in a report": lambda: _reading("abcdefgh\n"),
    "short words in a report": lambda: _reading("abc:1\n"),
    "counters": _counters,
    "counters in a report": lambda: _repeat(
        _HEADER + "Mem-Info:\n" + " free:1 free_pcp:0 free_cma:0\n" * 4000
    ),
    "victims": _victims,
    "a storm of kills": _storm,
    "short victims": _short_victims,
    "victims of a group": _group,
    "one victim again and again": lambda: _repeat(_kill("a", 1)),
    "hosts": _hosts,
    "tables of many hosts": _tables_of_hosts,
    "a table without an end": _rows,
    "rows between other lines": lambda: _repeat(_COLUMNS + "[1] 1 1 1 1 0 a\nx\n" * 2000),
    "lines of one time": _stamps,
    "hosts in turn": lambda: _repeat(
        "".join(
            f"Oct 12 19:00:20 h{'x' * number} kernel: [    1.{number:06}] Killed process 1 (a)\n"
            for number in range(70)
        )
    ),
    "lines without a time among others": lambda: _repeat(f"{_STAMP}x\n" + "Killed process 1 (a)\n" * 9),
    "unknown prefixes": _unknown_prefixes,
    "askers behind an unknown prefix": lambda: _repeat(f"x y | {_HEADER}x y | Mem-Info:\n"),
    "a name far behind": lambda: _repeat("x " * 190 + _HEADER + "x " * 150 + "Mem-Info:\n"),
    "wrapped lines": lambda: _repeat(f"{_STAMP}oom-kill " + "x" * 49 + ("\n" + "x" * 71 + "\ny") * 3 + "\n"),
    "wrapped kills": lambda: _repeat((_STAMP + _kill("a", 1)).replace("total", "\n" + "x" * 71 + "\ntotal")),
    "bare lines behind a mark": lambda: _repeat(
        f"{_STAMP}x\n" + ("Killed process 1 (" + "x" * 60 + ")\n") * 30
    ),
    "entries of the journal": lambda: _repeat("MESSAGE=oom-kill\nA=1\n" * 60 + "\n"),
    "messages of one entry": lambda: _repeat("MESSAGE=oom-kill\n"),
    "entries in pretty JSON": lambda: _repeat('\t"MESSAGE" : "oom-kill",\n\t"a" : 1,\n' * 40 + "{\n"),
    "kills of other programs": lambda: _repeat("systemd-oomd: Killed /a due to memory pressure for /\n"),
    "words of other programs": lambda: _repeat("Killed /\n"),
    "signals of other programs": lambda: _repeat(
        'earlyoom: sending SIGTERM to process 1 "' + '": ' * 19 + "\n"
    ),
    "times": lambda: _repeat("12:00:00 " * 43 + "oom-kill\n"),
    "days": lambda: _repeat("a 1 " * 98 + "oom-kill\n"),
    "brackets": lambda: _repeat("[1:1" * 98 + "oom-kill\n"),
    "marks in a row": lambda: _repeat("[1.0] " * 5000 + "oom-kill\n"),
    "decorations": lambda: _repeat("1:>-" * 98 + "oom_a: \n"),
    "bytes in JSON": lambda: _repeat(_json([1] * 8000)),
    "lists in JSON": lambda: _repeat('{"MESSAGE":' + "[" * 16_000 + '"MESSAGE":[' + "\n"),
    "logs in a string of JSON": lambda: _repeat(json.dumps({"log": "[1.0] oom-kill\n" * 1000}) + "\n"),
    "short logs in a string of JSON": lambda: _repeat('{"log":"[1.0] x\\noom-kill"}\n'),
    "kills in a string of JSON": lambda: _repeat(json.dumps({"log": "Killed process 1 (a)\n" * 900}) + "\n"),
    "candidates of nohang": lambda: _repeat("nohang: PID: 1, name: a, badness: 1\n"),
    "events of Kubernetes": lambda: _repeat("SystemOOM kubelet System OOM encountered\n"),
    "events before kills": lambda: (
        f"SystemOOM System OOM encountered, victim process: a, pid: {pid}\nKilled process {pid + 1} (a)\n"
        for pid in count(1, 2)
    ),
    "strings": lambda: _repeat('"oom-kill" ' + '""' * 14_000 + "\n"),
    "short strings": lambda: _repeat('"oom-kill""""\n'),
    "messages in strings": lambda: _repeat('msg="Killed process 1 (a)"\n'),
    "messages in a line": lambda: _repeat("oom-kill " + 'msg="Killed process 1 (a)"' * 1000 + "\n"),
    "logs in strings": lambda: _repeat(r"b'[1.0] oom-kill\n" + r"Killed process 1 (a)\n" * 900 + "'\n"),
    "strings without an end": lambda: _repeat("'oom-kill" + '\\"' * 14_000 + "\n"),
    "objects in strings in objects": lambda: _repeat(json.dumps({"log": '{"log":' * 4000}) + "\n"),
    "objects behind tags": lambda: _repeat('2026-10-12T19:00:20Z oom-kill {"' + '"log":"' * 4000 + "\n"),
    "markup": lambda: _repeat("&lt;=3D<p " + "x" * 190),
    "statuses": lambda: _repeat('"OOMKilled": true\n'),
    "containers": lambda: _repeat("container oom 29d72966e0be\n"),
    "words of runtimes": lambda: _repeat("/tasks/oom OOMKilled TaskOOM event \n"),
    "words about kills": lambda: _repeat("a was OOM killed\n"),
    "words about a kill in a line": lambda: _repeat("oom " * 7000 + "killed if " * 200 + "\n"),
    "pressed keys": lambda: _repeat("sysrq: Manual OOM execution\n"),
    "short entries in JSON": lambda: _repeat(_json([75])),
}
"""By what each log is made of."""


def log(kind: str, size: int) -> str:
    """Return a log of that kind and of `size` characters."""
    parts, length = [], 0
    for part in KINDS[kind]():
        parts.append(part)
        length += len(part)
        if length >= size:
            break
    return "".join(parts)[:size]
