"""CPU, memory and descriptors of a process and all its descendants, read from /proc (Linux, proc(5)).

    tree = Tree(pid)
    before = tree.cpu()
    ...
    spent = tree.cpu() - before

A server with several processes is measured as one. CPU includes children that have ended and were waited for, so a
server that forks for each client is counted in full. Memory is PSS, in which a page that n processes share counts 1/n
for each. A process that has just ended, so that it cannot be read any more, counts as zero. No server is known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a tree in KiB, and the number of its processes."""

    pss: int = 0
    """Proportional set size: the figure of a whole tree."""
    anonymous: int = 0
    """The part of PSS that is not mapped from a file: heaps and stacks."""
    private: int = 0
    """Memory that is not shared with any other process."""
    resident: int = 0
    """RSS, in which shared pages count in each process."""
    peak: int = 0
    """The sum of the highest RSS of each process (VmHWM) since it began or since ``reset_peak``."""
    processes: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Memory)))


class Tree:
    """The process ``pid`` and its descendants, which each call looks up again."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """Return the ids of all living processes, the root first."""
        children: dict[int, list[int]] = {}
        for pid, fields_ in _all_stats():
            children.setdefault(int(fields_[1]), []).append(pid)
        found, to_see = [], [self.pid]
        while to_see:
            pid = to_see.pop()
            to_see += children.get(pid, [])
            if (PROC / str(pid)).exists():
                found.append(pid)
        return found

    def cpu(self) -> float:
        """Return the CPU seconds so far, user and system, of ended children too, in steps of a clock tick (10 ms)."""
        stats = (_stat(pid) for pid in self.pids())
        return sum(sum(map(int, stat[11:15])) for stat in stats if stat) / TICKS

    def memory(self) -> Memory:
        """Return the current memory. For a big process this takes the kernel some ms and holds that process up."""
        return sum((_memory(pid) for pid in self.pids()), Memory())

    def reset_peak(self) -> None:
        """Reset ``Memory.peak`` to the resident memory of now."""
        for pid in self.pids():
            _write(PROC / str(pid) / "clear_refs", "5")

    def sockets(self) -> int:
        """Return the number of open sockets; a socket that processes share counts in each of them."""
        return sum(link.startswith("socket:") for pid in self.pids() for link in _descriptors(pid))

    def written(self) -> int:
        """Return the octets that the living processes have passed to write(2) and its like (wchar)."""
        lines = (line for pid in self.pids() for line in _lines(PROC / str(pid) / "io"))
        return sum(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def lives(pid: int) -> bool:
    """Return whether the process lives; a zombie does not."""
    return _stat(pid)[:1] not in ([], ["Z"])


def machine_cpu() -> float:
    """Return the CPU seconds that all cores together have been busy since the machine started, stolen time included."""
    spent = [int(word) for word in _lines(PROC / "stat")[0].split()[1:9]]
    return (sum(spent) - spent[3] - spent[4]) / TICKS


def _all_stats() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir(PROC):
        if name.isdigit() and (stat := _stat(int(name))):
            yield int(name), stat


def _stat(pid: int) -> list[str]:
    """Return the fields of stat from the third on, since the second one, a name, may contain spaces."""
    text = "".join(_lines(PROC / str(pid) / "stat"))
    return text.rpartition(")")[2].split()


def _memory(pid: int) -> Memory:
    found = {}
    for file in ("smaps_rollup", "status"):
        for line in _lines(PROC / str(pid) / file):
            name, _, rest = line.partition(":")
            if rest.endswith(" kB"):
                found[name] = int(rest.split()[0])
    if "Pss" not in found:
        return Memory()
    private = found["Private_Clean"] + found["Private_Dirty"]
    return Memory(found["Pss"], found["Pss_Anon"], private, found["Rss"], found["VmHWM"], 1)


def _descriptors(pid: int) -> Iterator[str]:
    try:
        for entry in os.scandir(PROC / str(pid) / "fd"):
            yield os.readlink(entry.path)
    except OSError:  # the process has ended or has closed this one; the next call sees the rest
        return


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError:
        return
