"""Warnings about sysctls."""

from collections.abc import Iterator

from oomguard.core.guard import fatal_bound, unwise
from oomguard.core.host import AskedHost, Host
from oomguard.core.overcommit import HUGE_PAGES, Memory
from oomguard.core.policy import SysctlSetting
from oomguard.policy.compile import resolved
from oomguard.policy.fault import Fault, Problem
from oomguard.policy.lint.subject import Subject, warning
from oomguard.policy.nodes import locate
from oomguard.policy.sysctl_model import COMMIT_LIMIT, keys_of

_TIB, _HUGE_PAGE_KIB = 2**30, 2048


def sysctls(subject: Subject) -> Iterator[Fault]:
    """Find values that take the host down, or have no effect."""
    settings = {one.name: one for one in subject.policy.sysctls}
    value = {name: setting.value for name, setting in settings.items()}
    for name, when in (("vm.panic_on_oom", "memory runs out"), ("kernel.panic_on_oops", "it meets a bug")):
        if value.get(name) and not any(_said(subject, "kernel", "panic")):
            message = f"the host panics when {when}, and hangs unless kernel.panic is set"
            problem = Problem("panic-hangs", message, "add kernel: {panic: 10} to reboot after 10 seconds")
            yield _at_setting(subject, settings[name], problem)
    if value.get("vm.panic_on_oom") == 2:
        yield _at_setting(subject, settings["vm.panic_on_oom"], _PANIC_WITH_LIMITS)
    if 2 not in _said(subject, "vm", "overcommit_memory"):
        for document in subject.documents:
            for knob in ("overcommit_ratio", "overcommit_kbytes", "commit_limit"):
                if getattr(document.said.vm, knob, None) is not None:
                    yield warning(document, ("vm", knob), _LIMIT_WITHOUT_MODE)
    ratio = value.get("vm.overcommit_ratio", 0)
    if ratio > 100:
        message = f"promises {ratio} % of RAM, more than the host has"
        problem = Problem("ratio-over-100", message, "write 100 or less; the kernel adds swap by itself")
        yield _at_setting(subject, settings["vm.overcommit_ratio"], problem)
    for setting in subject.policy.sysctls:
        if found := unwise(setting):
            yield _at_setting(subject, setting, Problem("unwise-value", *found))
    if subject.policy.unresolved:
        yield from _unwise_shares(subject)


_PANIC_WITH_LIMITS = Problem(
    "panic-with-limits",
    "2 panics the host whenever any unit or container reaches its own memory limit",
    "write panic_on_oom: 1 to panic only when the whole host runs out of memory",
)
_LIMIT_WITHOUT_MODE = Problem(
    "limit-without-mode",
    "has no effect, because this policy does not set vm.overcommit_memory to 2",
    "add overcommit_memory: 2, or remove this",
)


def _said(subject: Subject, section: str, knob: str) -> list[object]:
    """Return the value of a sysctl, even if it is left out on this host because others of its group are.

    With `when:` another file may count on another host: then all values.
    """
    said = [getattr(getattr(document.said, section), knob, None) for document in subject.documents]
    found = [one for one in said if one is not None]
    return found if any(document.said.when for document in subject.documents) else found[:1]


def _unwise_shares(subject: Subject) -> Iterator[Fault]:
    """Find shares of RAM that oomguard refuses on every host."""
    host, memory = Host(_TIB, 0, 0, 0, _HUGE_PAGE_KIB), Memory(_TIB, 0, 0, 0, 0, 0, _HUGE_PAGE_KIB, _TIB)
    for setting in resolved(subject.documents, AskedHost(host))[0]:
        raises = "% of " in setting.said and setting.kind != "at_most"
        found = fatal_bound(setting.name, setting.value, 0, memory) if raises else None
        if found is not None and found[0].side == "most":  # the least limit is no share
            bound, limit = found
            percent = round(100 * limit * (_HUGE_PAGE_KIB if setting.name == HUGE_PAGES else 1) / _TIB)
            share = setting.said.partition(" of ")[0]
            message = f"{share} of RAM is refused on any host, as is any above {percent} %: {bound.why}"
            yield _at_setting(subject, setting, Problem("unwise-value", message, bound.hint))


def _at_setting(subject: Subject, setting: SysctlSetting, problem: Problem) -> Fault:
    document = next(one for one in subject.documents if one.file == setting.file)
    key = next(key for key in (setting.name, COMMIT_LIMIT) if locate(document.root, keys_of(key)).path == key)
    return warning(document, keys_of(key), problem)
