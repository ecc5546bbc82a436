"""A process tree is measured correctly, for processes whose resources are known."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.tree import Tree, machine_cpu

SPIN = "import time\nwhile time.process_time() < 0.2: pass\n"
TAKE = f"""
taken = bytearray({30 * 2**20})
print('ready', flush=True)
input()
del taken
print('gone', flush=True)
input()
"""
PARENT = f"import subprocess, sys; print('ready', flush=True); subprocess.run([sys.executable, '-c', {TAKE!r}])"


@contextmanager
def program(source: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program, which must print "ready" first, and kill it at the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            for pid in Tree(process.pid).pids():
                os.kill(pid, 9)


def test_cpu_of_ended_children_counts() -> None:
    spinning = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}]); print('ready', flush=True); input()"
    )
    machine = machine_cpu()
    with program(spinning) as process:
        assert len(Tree(process.pid).pids()) == 1
        assert Tree(process.pid).cpu() >= 0.2
    assert machine_cpu() - machine >= 0.2


def test_memory_of_all_processes_counts() -> None:
    with program(PARENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"  # the child's
        memory = Tree(process.pid).memory()
        assert memory.processes == 2
        assert memory.private > 30 * 1024
        assert memory.private <= memory.pss <= memory.resident


def test_the_peak_can_be_reset() -> None:
    with program(TAKE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "gone\n"
        tree = Tree(process.pid)
        before = tree.memory()
        tree.reset_peak()
        after = tree.memory()
        assert before.peak > before.resident + 25 * 1024
        assert after.peak < after.resident + 5 * 1024


def test_open_sockets_and_written_octets_are_counted() -> None:
    source = "import socket; a, b = socket.socketpair(); b.sendall(bytes(5000)); print('ready', flush=True); input()"
    with program(source) as process:
        assert Tree(process.pid).sockets() == 2
    with program("open('/dev/null', 'wb').write(bytes(70000)); print('ready', flush=True); input()") as process:
        assert Tree(process.pid).written() >= 70_000


def test_a_process_that_has_ended_counts_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    tree = Tree(process.pid)
    assert tree.pids() == []
    assert tree.cpu() == 0
    assert tree.memory().pss == 0
