"""What tools and people put around the kernel's lines: each dress returns a log of a report's lines.

The prefixes are those of the tools named; mails and terminals wrap long lines as well.
"""

import html
import json
import quopri
from collections.abc import Callable, Sequence

_Entry = dict[str, object]


def _stamp(number: int) -> str:
    return f"[{8523 + number / 1000:12.6f}] "


def _entry(line: str, number: int) -> _Entry:
    return {
        "__REALTIME_TIMESTAMP": f"1791831620{number:06}",
        "MESSAGE": line,
        "_HOSTNAME": "db1",
        "_TRANSPORT": "kernel",
        "_SOURCE_MONOTONIC_TIMESTAMP": f"8523{number:06}",
    }


def _fields(line: str, number: int, *, indent: str = "") -> str:
    return "".join(f"{indent}{name}={value}\n" for name, value in _entry(line, number).items())


PREFIXES = {
    "none": "",
    "dmesg": "{stamp}",
    "dmesg, caller": "{stamp}[ T123] ",
    "dmesg -T": "[Mon Oct 12 19:00:20 2026] ",
    "dmesg -T in German": "[Di Mär  4 12:00:01 2025] ",
    "dmesg -T in Japanese": "[月  1月 26 12:00:01 2026] ",
    "dmesg -T in Russian": "[Пн окт 12 19:00:20 2026] ",
    "dmesg -x": "kern  :warn  : {stamp}",
    "dmesg -r": "<4>{stamp}",
    "dmesg -e": "[  +0.000006] ",
    "dmesg --time-format iso": "2026-10-12T19:00:20,123456+00:00 ",
    "console": "[    8.523000][ T123] ",
    "priority alone": "<4>",
    "kmsg": "4,{number},{micros},-;",
    "netconsole with release": "6.1.0-18-amd64,4,{number},{micros},-;",
    "syslog": "Oct 12 19:00:20 db1 kernel: ",
    "syslog, uptime": "Oct 12 19:00:20 db1 kernel: {stamp}",
    "syslog, one space": "Apr 1 12:00:01 db1 kernel: ",
    "syslog, year": "Oct 12 2026 19:00:20 db1 kernel: ",
    "syslog, IPv6": "Oct 12 19:00:20 2001:db8::1 kernel: ",
    "syslog, port": "Oct 12 19:00:20 10.0.0.1:514 kernel: ",
    "syslog, Kernel": "Oct 12 19:00:20 db1 Kernel: ",
    "syslog, two spaces": "Oct 12 19:00:20 db1 kernel:  {stamp}",
    "syslog in Russian": "ноя 25 12:00:01 db1 kernel: ",
    "syslog in Chinese": "3月 04 12:00:01 db1 kernel: ",
    "syslog in French": "déc. 25 12:00:01 db1 kernel: ",
    "rsyslog": "2026-10-12T19:00:20.{number:06}+02:00 db1 kernel: {stamp}",
    "RFC 5424": "<4>1 2026-10-12T19:00:20.123456Z db1 kernel - - - ",
    "RFC 5424, stored": "2026-10-12T19:00:20.123456Z db1 kernel - - - ",
    "RFC 5424, structured data": '<4>1 2026-10-12T19:00:20Z db1 kernel - - [meta sequenceId="{number}"] ',
    "BusyBox": "Oct 12 19:00:20 router kern.warn kernel: {stamp}",
    "short-full": "Mon 2026-10-12 19:00:20 UTC db1 kernel: ",
    "short-unix": "1791831620.123456 db1 kernel: ",
    "short-monotonic": "{stamp}db1 kernel: ",
    "cut before the program": "kernel: ",
    "cut before the host": "db1 kernel: ",
    "quoted": "> {stamp}",
    "quoted twice, bare": ">> ",
    "quoted, bare": "> ",
    "table": "| {stamp}",
    "table, bare": "| ",
    "box": "│ {stamp}",
    "indented": "    {stamp}",
    "indented by a tab": "\t{stamp}",
    "indented, bare": "    ",
    "tab, bare": "\t",
    "indented syslog": "    Sep 26 19:38:54 h kernel: ",
    "grep FILE": "/var/log/kern.log:Sep 26 19:38:54 h kernel: {stamp}",
    "grep FILE:LINE": "kern.log:{number}:{stamp}",
    "grep LINE": "{number}:{stamp}",
    "grep LINE, bare": "{number}:",
    "Talos": "10.5.0.2: kern: warning: [2026-10-12T19:00:20.123456789Z]: ",
    "logcat": "10-12 19:00:20.123     0     0 W         : ",
    "logcat, uptime": "10-12 19:00:20.123  root     0     0 W         : {stamp}",
    "CRI": "2026-10-12T19:00:21.5Z stdout F {stamp}",
    "Loki": '2026-10-12T19:00:21Z {{host="db1", job="kernel"}} ',
    "describe node": "  Warning  OOMKilling  5m12s  kernel-monitor  ",
    "compose": "web_1  | ",
    "kubectl get events, tabs": "5m12s\tnode-1\tNode\t\tWarning\tOOMKilling\tkernel-monitor, node-1\t",
    "kubectl get events": "5m12s  Warning  OOMKilling  node/aks-1  ",
    "MediaTek": "<4>[ 8523.347168]<2> (2)[1234:binder]",
    "bullets": "  * ",
    "numbered list": "{number}. ",
    "diff": "+{stamp}",
    "Samsung": "<4>[ 8523.347168] [3:    kworker/3:1: 1234] ",
    "dated and tagged": "[2026-10-12 19:00:20 UTC] kernel: ",
    "tab after the time": "[ 8523.347168]\t",
    "in a string": '    "kernel: ',
    "cloud": "2026-10-12T19:00:21.123Z i-0abc12345 {stamp}",
    "of somebody's own": "node-7 {number} KMSG ",
    "Amazon Linux": "Dec 27 09:19:05 2013 kernel: : {stamp}",
    "columns": "2026-10-12 19:00:20 | db1 | kernel | ",
    "without its first character": "{number}523.347168] ",
    "IRC": "19:00 <anna> {stamp}",
    "IRC, bare": "19:00 <anna> ",
    "comment": "# {stamp}",
    "comment, bare": "// ",
    "clock, bare": "18:15:49.644 ",
    "American date, bare": "10/12/2026 7:00:20 PM ",
    "German date, bare": "12.10.2026 19:00:20 ",
    "task list, bare": "- [ ] ",
    "bullet, bare": "• ",
    "Slack": "Anna Meier: {stamp}",
    "Slack, bare": "Anna Meier: ",
    "Teams": "[12/10/2026 19:00] Anna Meier: {stamp}",
    "Teams, syslog": "[19:00] Meier, Anna: Oct 12 19:00:20 db1 kernel: {stamp}",
    "WhatsApp": "[12.10.26, 19:00:20] Anna: {stamp}",
    "WhatsApp on Android": "12/10/26, 7:00 PM - Anna: {stamp}",
    "svlogd": "2026-10-12_19:00:20.{number:05} {stamp}",
    "svlogd, bare": "2026-10-12_19:00:20.{number:05} ",
    "tai64n": "@400000006acbd4a4{number:08x} {stamp}",
    "tai64n, bare": "@400000006acbd4a4{number:08x} ",
    "MediaTek, dot": "<4>[ 8523.347168].(2)[1234:binder]",
    "crash log -m": "{stamp}<4>",
    "BusyBox without a host": "Oct 12 19:00:20 (none) kern.warn kernel: {stamp}",
    "TeamCity": "[19:00:20] :\t [Step 1/2] {stamp}",
    "multipass": "[2026-10-12T19:00:20.123] [debug] [primary] {stamp}",
    "Jenkins": "[2026-10-12T19:00:20.123Z] Oct 12 19:00:20 db1 kernel: {stamp}",
}

_WHOLE: dict[str, Callable[[str, int], str]] = {
    "CSV": lambda line, _: '2026-10-12T19:00:21Z,db1,"' + line.replace('"', '""') + '"',
    "CSV, syslog": lambda line, _: '"2026-10-12 19:00:21","db1","kernel: ' + line + '"',
    "code in a list": lambda line, _: f"- `{line}`",
    "table with an end": lambda line, number: f"| {_stamp(number)}{line} |",
    "CR LF": lambda line, number: f"{_stamp(number)}{line}\r",
    "no-break spaces": lambda line, number: (_stamp(number) + line).replace(" ", "\xa0"),
    "PDF": lambda line, number: (
        (_stamp(number) + line).replace("total", "to\xadtal").replace("file", "\ufb01le")
    ),
    "cat -v": lambda line, number: f"{_stamp(number)}{line}^M",
    "byte order mark": lambda line, number: ("" if number else "\ufeff") + _stamp(number) + line,
    "filled by a terminal": lambda line, number: f"{_stamp(number)}{line}".ljust(200),
    "a window of tmux": lambda line, number: f"{_stamp(number)}{line}".ljust(200) + "│",
    "grep --color": lambda line, number: (
        _stamp(number) + line.replace("oom", "\x1b[01;31m\x1b[Koom\x1b[m\x1b[K")
    ),
    "curly quotes": lambda line, number: f"“{_stamp(number)}{line}”",
    "curly quotes, bare": lambda line, _: f"„{line}“",
    "bold": lambda line, number: f"* **{_stamp(number)}{line}**",
    "a block of code each": lambda line, number: f"```{_stamp(number)}{line}```",
    "HTML": lambda line, number: f"<p>{html.escape(_stamp(number) + line)}</p>",
    "GELF": lambda line, number: json.dumps(
        {"short_message": f"{_stamp(number)}{line}"[:40], "full_message": f"{_stamp(number)}{line}"}
    ),
    "asciinema": lambda line, number: json.dumps([number + 0.5, "o", f"{_stamp(number)}{line}\r\n"]),
    "HTML with numbers": lambda line, number: f"<li>{html.escape(_stamp(number) + line)}</li>".replace(
        "[", "&#91;"
    ).replace("]", "&#x5d;"),
    "HTML, bare": lambda line, _: f"{html.escape(line)}<br/>",
    "HTML, no-break spaces": lambda line, number: html.escape(f"<4>{_stamp(number)}{line}").replace(
        " ", "&nbsp;"
    ),
    "colors without their first character": lambda line, number: f"[32m{_stamp(number)}[0m[31;1m{line}[0m",
    "mail": lambda line, number: quopri.encodestring(f"{_stamp(number)}{line}".encode()).decode(),
    "bytes of Python": lambda line, number: repr(f"{_stamp(number)}{line}\n".encode()),
    "bytes of Python, bare": lambda line, _: repr(line.encode()),
    "strings of Python": lambda line, number: f" {_stamp(number) + line!r},",
    "dictionaries of Python": lambda line, _: repr({"host": "db1", "message": line}),
    "hashes of Ruby": lambda line, number: (
        f'{{"host"=>"db1", "message"=>{json.dumps(_stamp(number) + line)}}}'
    ),
    "logfmt": lambda line, _: f"ts=2026-10-12T19:00:20Z level=err msg={json.dumps(line)}",
    "Fluentd": lambda line, _: f"2026-10-12T19:00:20+00:00\tkernel.messages\t{json.dumps({'message': line})}",
    "Fluentd's own": lambda line, number: (
        f"2026-10-12 19:00:20.000000000 +0000 kern.warn: {json.dumps({'message': _stamp(number) + line})}"
    ),
    "Fluent Bit": lambda line, number: (
        f'[{number}] kmsg.0: [[1791831620.347168000, {{}}], {{"priority"=>3, "msg"=>{json.dumps(line)}}}]'
    ),
    "JSON in Docker's": lambda line, _: json.dumps({"log": json.dumps({"message": line}) + "\n"}),
    "an entry within JSON": lambda line, number: json.dumps({"jsonPayload": _entry(line, number)}),
    "grep -nC": lambda line, number: f"{number}{_grep_separator(line)}{_stamp(number)}{line}",
    "grep -nC, bare": lambda line, number: f"{number}{_grep_separator(line)}{line}",
    "grep -C": lambda line, number: f"dmesg.txt{_grep_separator(line)}{_stamp(number)}{line}",
    "behind a macro": lambda line, number: ("" if number else "{noformat}") + _stamp(number) + line,
    "colors": lambda line, number: f"\x1b[32m{_stamp(number)}\x1b[0m\x1b[33m{line}\x1b[0m",
    "json": lambda line, number: json.dumps(_entry(line, number)),
    "json-seq": lambda line, number: "\x1e" + json.dumps(_entry(line, number)),
    "json-sse": lambda line, number: f"data: {json.dumps(_entry(line, number))}\n",
    "json-pretty": lambda line, number: json.dumps(
        _entry(line, number), indent="\t", separators=(",", " : ")
    ),
    "export": lambda line, number: f"__CURSOR=s=1;i={number}\n{_fields(line, number)}",
    "verbose": lambda line, number: (
        f"Mon 2026-10-12 19:00:20.{number:06} UTC [s=a;i={number};b=c]\n"
        + _fields(line, number, indent="    ")[:-1]
    ),
    "dmesg -J": lambda line, number: (
        f'      {{\n         "pri": 4,\n         "time":    {8523 + number / 1000:.6f},\n'
        f'         "msg": {json.dumps(line)}\n      }},'
    ),
    "Docker": lambda line, number: json.dumps(
        {"log": f"{_stamp(number)}{line}\n", "stream": "stdout", "time": "2026-10-12T19:00:21.5Z"}
    ),
    "Docker, bare": lambda line, _: json.dumps({"log": f"{line}\n", "time": "2026-10-12T19:00:21.5Z"}),
    "a list of JSON": lambda line, _: f"  {json.dumps({'message': line, 'source': 'kernel'})},",
    "pretty JSON": lambda line, _: json.dumps(
        {"@timestamp": "2026-10-12T19:00:20Z", "message": line}, indent=2
    ),
    "Azure": lambda line, _: json.dumps({"Computer": "db1", "Facility": "kern", "SyslogMessage": line}),
    "OpenTelemetry": lambda line, _: json.dumps(
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": line}}]}]}]}
    ),
    "twice in one entry": lambda line, number: json.dumps(
        {"event": {"original": f"Oct 12 19:00:20 db1 kernel: {_stamp(number)}{line}"}, "message": line}
    ),
    "Loki, JSON": lambda line, _: json.dumps({"labels": {"host": "db1"}, "line": line, "timestamp": "x"}),
}

_IN_ONE_STRING = {
    "one string": lambda text: json.dumps({"log": text, "stream": "stdout"}) + "\n",
    "one string of a field": lambda text: json.dumps({"a": 1, "textPayload": text.rstrip()}, indent=2) + "\n",
    "bytes of Python": lambda text: f"{text.encode()!r}\n",
    "a string in YAML": lambda text: f"  data: {json.dumps(text)}\n",
    "CloudWatch": lambda text: (
        json.dumps({"events": [{"timestamp": 1, "message": line} for line in text.splitlines()]}) + "\n"
    ),
    "Ansible": lambda text: (
        f"changed: [db1] => {json.dumps({'rc': 0, 'stdout': text, 'stdout_lines': text.splitlines()})}\n"
    ),
    "pretty Ansible": lambda text: (
        "ok: [db1 -> db2] => (item=dmesg) => "
        + json.dumps({"out": {"stdout": text, "stdout_lines": text.splitlines()}}, indent=4)
        + "\n"
    ),
    "ansible": lambda text: f"db1 | CHANGED => {json.dumps({'stdout': text})}\n",
    "one string in a list": lambda text: f"  {json.dumps({'items': [{'message': text}]})},\n",
}
"""A log of several lines as a string, or strings, in one line of JSON."""
_WIDTHS = (72, 80)


def _grep_separator(line: str) -> str:
    return ":" if "oom" in line else "-"


def dressed(name: str, lines: Sequence[str]) -> str:
    """Return a report's lines in the dress of that name."""
    if name in PREFIXES:
        prefixes = [
            PREFIXES[name].format(stamp=_stamp(at), number=at + 8, micros=8523000000 + at * 1000)
            for at in range(len(lines))
        ]
        return "".join(f"{prefix}{line}\n" for prefix, line in zip(prefixes, lines, strict=True))
    if name in _WHOLE:
        return "".join(f"{_WHOLE[name](line, at)}\n" for at, line in enumerate(lines))
    if name in IN_ONE_STRING:
        how, _, prefix = name.partition(", ")
        return _IN_ONE_STRING[how](dressed(prefix, lines))
    prefix, how, width = name.rsplit(", ", 2)
    start = "Oct 12 19:00:20 aks-nodepool1 kernel: " if prefix == "syslog" else ""
    wide = [f"{start}{_stamp(at)}{line}" for at, line in enumerate(lines)]
    parts = [part for line in wide for part in _wrapped(line, int(width), how != "hard")]
    return "".join(f"{part.strip() if how == 'trimmed' else part}\n" for part in parts)


def _wrapped(line: str, width: int, at_spaces: bool) -> list[str]:
    parts = []
    while len(line) > width:
        at = line.rfind(" ", 0, width + 1) if at_spaces else width
        at = at if at > 0 else line.find(" ", width)
        if at <= 0:
            break
        parts.append(line[:at])
        line = line[at + at_spaces :]
    return [*parts, line]


WRAPPED = tuple(
    f"{prefix_and_how}, {width}"
    for prefix_and_how in ("dmesg, soft", "dmesg, hard", "dmesg, trimmed", "syslog, soft", "syslog, hard")
    for width in _WIDTHS
)
IN_ONE_STRING = tuple(f"{how}, {prefix}" for how in _IN_ONE_STRING for prefix in ("none", "dmesg", "rsyslog"))
DRESSES = (*PREFIXES, *_WHOLE, *WRAPPED, *IN_ONE_STRING)
