"""Blocking calls: each plugin has threads of its own, and one that never returns harms nobody but itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from gatepost import Address, Decision, Envelope, accept, hookimpl
from gatepost.concurrency.threads import MOST, Threads
from tests.policy import Client, Policy


async def test_a_call_runs_in_another_thread_and_its_outcome_comes_back() -> None:
    def fails() -> None:
        raise ValueError("no")

    threads = Threads("plugin")
    assert await threads.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ValueError, match="no"):
        await threads.run(fails)


async def test_calls_beyond_the_bound_wait_and_those_nobody_waits_for_are_not_made() -> None:
    release, calls = threading.Event(), list[str]()

    def work(name: str) -> Callable[[], bool]:
        def called() -> bool:
            calls.append(name)
            return release.wait(10)

        return called

    threads = Threads("plugin", most=1)
    first, given_up, last = (threads.run(work(name)) for name in ("first", "given up", "last"))
    given_up.cancel()
    release.set()
    assert await first and await last
    assert calls == ["first", "last"]


async def test_a_system_that_has_no_thread_to_give_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = Threads("plugin", most=1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuses)
        with pytest.raises(RuntimeError, match="new thread"):
            await threads.run(threading.get_ident)
    assert await threads.run(threading.get_ident)


async def test_a_plugin_that_never_returns_does_not_keep_others_from_delivering() -> None:
    release = threading.Event()

    class Stuck:
        @hookimpl(blocking=True)
        def mail(self) -> None:
            release.wait(20)

    class Delivers:
        grants = "delivery"

        @hookimpl(blocking=True)
        def queue(self) -> Decision:
            return accept("kept")

    policy = Policy(Stuck(), Delivers())
    session = Client(policy, "192.0.2.1").session
    envelope = Envelope(Address("a", "example.com"), {})
    envelope._recipients = (Address("b", "example.org"),)
    stuck = [
        asyncio.ensure_future(policy.gate.ask("mail", (session, envelope, None, {}), session)) for _ in range(MOST)
    ]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):
            await policy.gate.ask("queue", (session, envelope, None), session, envelope)
        assert not envelope.pending
    finally:
        release.set()
        await asyncio.gather(*stuck)


def test_a_thread_that_never_returns_does_not_keep_the_process_from_ending() -> None:
    program = (
        "import asyncio, time\n"
        "from gatepost.concurrency.threads import Threads\n"
        "async def main():\n"
        "    Threads('plugin').run(lambda: time.sleep(1000))\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=20, check=False).returncode == 0
