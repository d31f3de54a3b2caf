"""Why memory ran out although some was free, and what held it."""

import pytest

import oom_formats as formats
from oomguard.oom.log_reader import OomLog
from oomguard.oom.postmortem import examine
from oomguard.report.postmortem_memory import memory_of


def words(**changes: str) -> str:
    """Return what is said of a host's memory, of which much is free, with parts of its report replaced."""
    text = "\n".join(formats.host_report(formats.KERNELS[-1]))
    for old, new in ROOMY.items():
        text = text.replace(old, new)
    for key, value in changes.items():
        assert PARTS[key] in text
        text = text.replace(PARTS[key], value)
    (report,) = OomLog().read([text])
    return " ".join(memory_of(examine(report)))


ROOMY = {" free:12163": " free:112163", "free:48000kB min:44kB": "free:448000kB min:44kB"}
PARTS = {
    "mask": "gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP)",
    "order": "order=0",
    "zone": "Node 0 DMA32 free:448000kB min:44kB",
    "cma": "free_cma:0",
    "slab": "slab_unreclaimable:2000",
    "shmem": "shmem:19",
    "table": "84 total pagecache pages",
}


def test_order_that_was_cut_off_is_not_made_up() -> None:
    """A mail or a screen may leave the beginning of its line."""
    for cut, said in ((", o>", "memory"), (", order=", "memory"), (", order=3, oom", "32 KiB")):
        text = f"a invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL){cut}\nOut of memory: Killed process 7 (a)\n"
        (report,) = OomLog().read([text])
        assert [*memory_of(examine(report))] == [f"a asked for {said}."]


def test_little_free_memory_needs_no_explanation() -> None:
    """And neither does a plain host."""
    text = "\n".join(formats.host_report(formats.KERNELS[-1]))
    (report,) = OomLog().read([text.replace(PARTS["mask"], "gfp_mask=0x0")])
    assert "gfp_mask" not in " ".join(memory_of(examine(report)))


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("mask", "gfp_mask=0x0", "Its gfp_mask is 0: not an allocation, but a page fault"),
        ("order", "order=3", "The memory must be contiguous"),
        (
            "zone",
            "Node 0 DMA32 free:40kB min:44kB",
            "Zones that it could use were below their minimum: DMA32 of node 0 (40 KiB free, minimum 44 KiB)",
        ),
        ("slab", "slab_unreclaimable:120000", "468.8 MiB are the kernel's own objects (slab)"),
        ("shmem", "shmem:120000", "468.8 MiB are shared memory and tmpfs"),
        (
            "table",
            "Node 0 hugepages_total=256 hugepages_free=256 hugepages_surp=0 hugepages_size=2048kB",
            "512.0 MiB are huge pages: vm.nr_hugepages reserves them.",
        ),
    ],
)
def test_reason_is_named(part: str, value: str, sentence: str) -> None:
    """By what the kernel printed of it."""
    assert sentence in words(**{part: value})


def test_zone_that_may_not_be_used_is_named() -> None:
    """Old devices need memory below 16 MiB, and 32-bit kernels low memory."""
    zones = f"Node 0 DMA free:40kB min:20kB present:1kB managed:1kB\n{PARTS['zone']}"
    text = words(mask="gfp_mask=0xcc1(GFP_KERNEL|GFP_DMA)", zone=zones)
    assert "Its gfp_mask excludes zone DMA32, which has most of the free memory." in text


def test_cma_is_for_movable_pages() -> None:
    """An allocation of the kernel's own cannot take it."""
    text = words(mask="gfp_mask=0xcc0(GFP_KERNEL)", cma="free_cma:100000")
    assert "390.6 MiB of the free memory is CMA, for movable pages only." in text
    assert "CMA" not in words(cma="free_cma:100000")


def test_processes_that_are_not_the_reason_are_said_so() -> None:
    """All of them together use less than half of memory."""
    assert "All processes together used 516.0 MiB of RAM." not in words()
    text = "\n".join(formats.host_report(formats.KERNELS[-1])).replace("90000", "30000")
    (report,) = OomLog().read([text])
    assert "All processes together used 281.6 MiB of RAM." in " ".join(memory_of(examine(report)))


STATS_V1 = "Memory cgroup stats for /a{}: cache:30000KB rss:0KB rss_huge:0KB shmem:{}KB mapped_file:0KB"


@pytest.mark.parametrize(
    ("stats", "shown"),
    [
        (["Memory cgroup stats for /app.slice:", "anon 4096", "shmem 41943040", "slab_unreclaimable 1"], 40),
        ([STATS_V1.format("", 10240), STATS_V1.format("/b", 20480)], 30),
        ([], 0),
    ],
)
def test_what_a_cgroup_holds_is_named(stats: list[str], shown: int) -> None:
    """Files in memory count for it, and no kill frees them."""
    lines = formats.GROUP_5_15.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("Memory cgroup stats"))
    for prefix in ("", "[    1.000000] "):
        text = "\n".join(prefix + line for line in [*lines[:at], *stats, *lines[at + 1 :]])
        (report,) = OomLog().read([text])
        sentences = " ".join(memory_of(examine(report)))
        assert (
            f"{shown}.0 MiB are shared memory and tmpfs: killing a process does not" in sentences
        ) == bool(shown)
