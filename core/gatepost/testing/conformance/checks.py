"""The checks of a plugin, in order, and the three ways to run them: a report, an assertion, a test for each.

It knows nothing of what a check looks at: see ``declared``, ``asked``, ``lasting`` and ``failing``.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gatepost.options import Options
from gatepost.testing.conformance import asked, declared, failing, lasting
from gatepost.testing.conformance.report import Check, Outcome, Report, Result
from gatepost.testing.conformance.subject import NotApplicableError, Subject


def _check(run: Any) -> Check:
    return Check(run.__name__.replace("_", "-"), inspect.getdoc(run) or "", run)


CHECKS: tuple[Check, ...] = tuple(
    map(
        _check,
        (
            declared.hooks,
            declared.returns,
            declared.options,
            declared.start,
            declared.secrets,
            declared.grants,
            asked.answers,
            asked.ordinary,
            asked.hostile,
            asked.stalls,
            asked.ahead,
            asked.time_limit,
            lasting.cancellation,
            lasting.tasks,
            lasting.keeps,
            lasting.apart,
            failing.dns,
            failing.store,
            failing.next_hop,
        ),
    )
)
"""Every check, the simple ones first."""


async def check(
    plugin: Any,
    *,
    options: Options | Mapping[str, Any] | None = None,
    name: str = "",
    only: tuple[str, ...] = (),
) -> Report:
    """Check a plugin: its class, made with ``options`` (ready made, or as a table of the configuration), or a module.

    An object that is made already can be given too; what needs services of the kit's own is skipped then. ``name`` is
    what it is called in the report. ``only`` names checks, all others are left out; raises ``ValueError`` for one that
    does not exist. What is wrong with the plugin is in the report, and nothing of that is raised.
    """
    if unknown := [each for each in only if each not in {known.name for known in CHECKS}]:
        raise ValueError(f"there is no check {unknown[0]!r}; there are {', '.join(map(str, CHECKS))}")
    subject = Subject(plugin, options)
    results = [await _result(each, subject) for each in CHECKS if not only or each.name in only]
    return Report(name or getattr(subject.offered, "__name__", "the plugin"), tuple(results))


async def assert_conforms(
    plugin: Any, *, options: Options | Mapping[str, Any] | None = None, only: tuple[str, ...] = ()
) -> None:
    """Raise ``AssertionError`` with all findings unless ``check`` finds nothing wrong."""
    report = await check(plugin, options=options, only=only)
    if not report.passed:
        raise AssertionError(str(report))


def suite(plugin: Any, *, options: Options | Mapping[str, Any] | None = None) -> Callable[[Check], None]:
    """Return a test function for pytest, to be bound to a name that begins with ``test``: a test for each check.

    What a check has nothing to look at in is a test that passes. It needs no plugin of pytest.
    """
    import pytest

    def conforms(check: Check) -> None:
        asyncio.run(assert_conforms(plugin, options=options, only=(check.name,)))

    marked: Callable[[Check], None] = pytest.mark.parametrize("check", CHECKS, ids=str)(conforms)
    return marked


async def _result(wanted: Check, subject: Subject) -> Result:
    try:
        findings = await wanted.run(subject)
    except NotApplicableError as error:
        return Result(wanted.name, wanted.about, Outcome.SKIPPED, (str(error),))
    except (Exception, SystemExit) as error:  # whatever code of the plugin's does, such as its __repr__
        findings = [f"it cannot be checked: {type(error).__name__}: {error}"]
    outcome = Outcome.FAILED if findings else Outcome.PASSED
    return Result(wanted.name, wanted.about, outcome, tuple(findings))
