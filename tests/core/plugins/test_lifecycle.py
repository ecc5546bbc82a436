"""Plugins start and end one after the other, and whatever one of them raises is said with its name."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gatepost import PluginError, Server, hookimpl
from gatepost.plugins.lifecycle import Jobs, end_plugins, start_plugins
from gatepost.plugins.load import Policy as Loaded
from gatepost.plugins.load import make_gate, register
from tests.policy import Events, Policy, instance


class Telling:
    """Writes down what is called."""

    def __init__(self, name: str, told: list[str], error: BaseException | None = None) -> None:
        self.name, self.told, self.error = name, told, error

    @hookimpl
    async def startup(self, server: Server) -> None:
        self.tell(f"startup at {server.hostname}")

    @hookimpl
    def shutdown(self) -> None:
        self.tell("shutdown")

    def tell(self, what: str) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(f"{self.name}: {what}")


class Blocking:
    thread: threading.Thread | None = None

    @hookimpl(blocking=True)
    def startup(self) -> None:
        self.thread = threading.current_thread()


def loaded(*plugins: Any) -> Loaded:
    instances = {f"p{number}": instance(plugin, f"p{number}") for number, plugin in enumerate(plugins)}
    policy = Policy()
    gate = make_gate(list(instances.values()), policy.clock, policy.events)
    return Loaded(instances, {}, register(tuple(instances.values())), gate)


async def test_all_start_in_the_configured_order_whatever_their_kind() -> None:
    told: list[str] = []
    await start_plugins(loaded(Telling("a", told), Telling("b", told)), Jobs(Policy().runtime))
    assert told == ["a: startup at mx.example.org", "b: startup at mx.example.org"]


@pytest.mark.parametrize("error", [OSError("no file"), SystemExit(0), PluginError("no list")])
async def test_the_first_that_cannot_start_is_named_and_ends_the_start(error: BaseException) -> None:
    told: list[str] = []
    policy = loaded(Telling("a", told), Telling("b", told, error), Telling("c", told))
    with pytest.raises(
        PluginError, match=rf"^p1: its startup failed: {type(error).__name__}: {error} \(test_lifecycle.py:33\)$"
    ):
        await start_plugins(policy, Jobs(Policy().runtime))
    assert told == ["a: startup at mx.example.org"]


async def test_all_end_also_after_one_that_fails() -> None:
    told: list[str] = []
    events = Events()
    policy = loaded(Telling("a", told, SystemExit(3)), Telling("b", told))
    await end_plugins(policy, Jobs(Policy().runtime), events)
    assert told == ["b: shutdown"]
    (failed,) = events.named("shutdown_failed")
    assert failed == {"plugin": "p0", "error": "p0: its shutdown failed: SystemExit: 3 (test_lifecycle.py:33)"}


async def test_a_blocking_hook_runs_in_a_thread() -> None:
    blocking = Blocking()
    await start_plugins(loaded(blocking), Jobs(Policy().runtime))
    assert blocking.thread not in (None, threading.main_thread())
