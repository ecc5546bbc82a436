"""The registry of events: what is declared is what the code reports, and the log has no other names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gatepost import events
from gatepost.events import EVENTS, FACTS, NULL_RECORDER, Event

CORE = Path(events.__file__).parent
SOURCES = {
    path: ast.parse(path.read_text())
    for path in CORE.rglob("*.py")
    if path.name != "events.py" and "_plugin_template" not in path.parts  # where gatepost is installed from a wheel
}
RECORDED = (events.REFUSED, events.ACCEPTED, events.DISCONNECTED)
"""Their facts come from records: see ``telemetry.log``."""
IDS = [event.name for event in EVENTS]


class Report(NamedTuple):
    """A call that reports an event: where, what its first argument is, and the facts that it gives."""

    where: str
    event: str
    facts: frozenset[str]
    is_complete: bool
    """False when the call passes a dictionary of facts too."""


def reports(tree: ast.AST, path: Path) -> Iterator[Report]:
    """Every call of a method ``event``, with what a method ``_event`` of the same module adds to it."""
    added = {
        keyword.arg
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "_event"
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg is not None
    }
    for call in ast.walk(tree):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr in {"event", "_event"}
        ):
            given = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
            yield Report(
                f"{path.relative_to(CORE)}:{call.lineno}",
                ast.unparse(call.args[0]),
                frozenset(given | added if call.func.attr == "_event" else given),
                len(given) == len(call.keywords),
            )


REPORTS = [report for path, tree in SOURCES.items() for report in reports(tree, path)]


def constant(event: Event) -> str:
    return f"events.{event.name.upper()}"


@pytest.mark.parametrize("event", EVENTS, ids=IDS)
def test_an_event_is_named_in_snake_case_as_its_constant_is(event: Event) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", event.name)
    assert getattr(events, event.name.upper()) is event


@pytest.mark.parametrize("event", EVENTS, ids=IDS)
def test_an_event_has_one_sentence_for_the_administrator(event: Event) -> None:
    assert re.fullmatch(r"[^.]+\.", event.meaning.replace("../compatibility.md", ""))


def test_no_two_events_have_one_name() -> None:
    assert len(set(IDS)) == len(EVENTS)


def test_the_facts_of_events_are_explained_and_no_others() -> None:
    assert {fact for event in EVENTS for fact in event.facts} == FACTS.keys()


def test_an_event_is_reported_by_its_constant_and_never_by_a_bare_string() -> None:
    handed_on = {"event"}  # a recorder that hands on what it is given
    known = {constant(event) for event in EVENTS}
    assert [report for report in REPORTS if report.event not in known | handed_on] == []


@pytest.mark.parametrize("event", EVENTS, ids=IDS)
def test_an_event_is_used(event: Event) -> None:
    assert any(constant(event) in ast.unparse(tree) for tree in SOURCES.values())


@pytest.mark.parametrize("event", [event for event in EVENTS if event not in RECORDED], ids=lambda event: event.name)
def test_an_event_is_reported_with_the_facts_that_it_declares(event: Event) -> None:
    given: dict[bool, set[str]] = defaultdict(set)
    for report in REPORTS:
        if report.event == constant(event):
            given[report.is_complete] |= report.facts
    assert given[True] | given[False] <= set(event.facts)
    assert False in given or given[True] == set(event.facts)


def test_nobody_asks_for_a_logger_of_his_own() -> None:
    log = CORE / "telemetry" / "log.py"
    imported = {
        str(path.relative_to(CORE)): name
        for path, tree in SOURCES.items()
        if path != log
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if name == "logging"
    }
    assert imported == {}


def test_the_recorder_for_no_server_keeps_nothing() -> None:
    assert not any(NULL_RECORDER.keeps(event) for event in EVENTS)
    NULL_RECORDER.event(events.STOPPED)


@pytest.mark.parametrize("event", EVENTS, ids=IDS)
def test_an_event_is_seen_by_a_test(event: Event) -> None:
    constant = next(name for name, value in vars(events).items() if value is event)
    tests = [path for path in Path(__file__).parents[1].rglob("*.py") if path != Path(__file__)]
    assert any(re.search(rf"\b({constant}|{event.name})\b", path.read_text()) for path in tests)
