"""A process and all its descendants as /proc shows them (Linux, proc(5)): CPU, memory, descriptors.

    tree = Tree(pid)
    before = tree.cpu()
    ...
    spent = tree.cpu() - before

A server in several processes is measured as one. CPU counts children that have ended and were waited for, so a server
that forks for each client is counted in full. Memory is PSS, in which a page that n processes share counts 1/n for
each. It knows no server; what cannot be read any more, since a process has just ended, counts nothing.
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
    """Memory of a tree in KiB, and of how many processes it is."""

    pss: int = 0
    """Proportional set size: the figure of a whole tree."""
    anonymous: int = 0
    """The part of it that no file stands behind: heaps and stacks."""
    private: int = 0
    """What no other process shares."""
    resident: int = 0
    """RSS; shared pages count in each process."""
    peak: int = 0
    """The highest RSS of each process (VmHWM) since it began or since ``reset_peak``, summed up."""
    processes: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Memory)))


class Tree:
    """The process ``pid`` and its descendants, looked up anew in each call."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        """All that live, the root first."""
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
        """CPU seconds so far, user and system, with those of children that ended. Steps are a clock tick (10 ms)."""
        stats = (_stat(pid) for pid in self.pids())
        return sum(sum(map(int, stat[11:15])) for stat in stats if stat) / TICKS

    def memory(self) -> Memory:
        """What it takes now. Takes the kernel some ms for a big process, and holds that process up meanwhile."""
        return sum((_memory(pid) for pid in self.pids()), Memory())

    def reset_peak(self) -> None:
        """Let ``Memory.peak`` begin anew from what is resident now."""
        for pid in self.pids():
            _write(PROC / str(pid) / "clear_refs", "5")

    def sockets(self) -> int:
        """Open sockets; one that processes share counts in each."""
        return sum(link.startswith("socket:") for pid in self.pids() for link in _descriptors(pid))

    def written(self) -> int:
        """Octets handed to write(2) and its like by the processes that live (wchar)."""
        lines = (line for pid in self.pids() for line in _lines(PROC / str(pid) / "io"))
        return sum(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def lives(pid: int) -> bool:
    """Whether there is such a process; one that has ended and was not waited for does not live."""
    return _stat(pid)[:1] not in ([], ["Z"])


def machine_cpu() -> float:
    """CPU seconds that the whole machine has been busy since it started, all cores, time stolen from it included."""
    spent = [int(word) for word in _lines(PROC / "stat")[0].split()[1:9]]
    return (sum(spent) - spent[3] - spent[4]) / TICKS


def _all_stats() -> Iterator[tuple[int, list[str]]]:
    for name in os.listdir(PROC):
        if name.isdigit() and (stat := _stat(int(name))):
            yield int(name), stat


def _stat(pid: int) -> list[str]:
    """The fields of stat from the third on: the second, a name, may hold blanks."""
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
    except OSError:  # it ended meanwhile, or closed this one; the next look sees the rest
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
