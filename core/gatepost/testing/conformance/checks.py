"""The list of checks, and three ways to run them: as a report, as an assertion, and as a test for each.

The checks are in ``declared``, ``asked``, ``lasting``, ``interleaving`` and ``failing``.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from gatepost.options import Options
from gatepost.testing.conformance import asked, declared, failing, interleaving, lasting
from gatepost.testing.conformance.report import Check, Outcome, Report, Result
from gatepost.testing.conformance.subject import NotApplicableError, Subject


def _check(run: Any) -> Check:
    return Check(run.__name__.replace("_", "-"), inspect.getdoc(run) or "", run)


CHECKS: tuple[Check, ...] = tuple(
    map(
        _check,
        (
            declared.hooks,
            declared.declarations,
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
            interleaving.apart,
            failing.dns,
            failing.store,
            failing.next_hop,
        ),
    )
)
"""All checks, beginning with the simple ones."""


async def check(
    plugin: Any,
    *,
    options: Options | Mapping[str, Any] | None = None,
    name: str = "",
    only: tuple[str, ...] = (),
) -> Report:
    """Check a plugin: a module, or a class with ``options`` (an object, or a table as in the configuration).

    For an existing plugin object, checks that need services of the kit are skipped. ``name`` is its name in the report.
    ``only`` limits the run to the checks with these names; raises ``ValueError`` for one that does not exist. Faults of
    the plugin are in the report and never raised.
    """
    if unknown := [each for each in only if each not in {known.name for known in CHECKS}]:
        raise ValueError(f"there is no check {unknown[0]!r}; there are {', '.join(map(str, CHECKS))}")
    subject = Subject(plugin, options)
    results = [await _result(each, subject) for each in CHECKS if not only or each.name in only]
    return Report(name or getattr(subject.offered, "__name__", "the plugin"), tuple(results))


async def assert_conforms(
    plugin: Any, *, options: Options | Mapping[str, Any] | None = None, only: tuple[str, ...] = ()
) -> None:
    """Raise ``AssertionError`` with all findings if there are any."""
    report = await check(plugin, options=options, only=only)
    if not report.passed:
        raise AssertionError(str(report))


def suite(plugin: Any, *, options: Options | Mapping[str, Any] | None = None) -> Callable[[Check], None]:
    """Return a pytest function with a test for each check. Bind it to a name that begins with ``test``.

    A check that does not apply to the plugin passes. This needs no pytest plugin.
    """
    import pytest

    def conforms(check: Check) -> None:
        asyncio.run(assert_conforms(plugin, options=options, only=(check.name,)))

    marked: Callable[[Check], None] = pytest.mark.parametrize("check", CHECKS, ids=str)(conforms)
    return marked


async def _result(wanted: Check, subject: Subject) -> Result:
    try:
        with warnings.catch_warnings():
            # The check ``ordinary`` reports these; here pytest would take each for an error of the test.
            warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)
            findings = await wanted.run(subject)
    except NotApplicableError as error:
        return Result(wanted.name, wanted.about, Outcome.SKIPPED, (str(error),))
    except (Exception, SystemExit) as error:  # any code of the plugin may raise, even its __repr__
        findings = [f"it cannot be checked: {type(error).__name__}: {error}"]
    outcome = Outcome.FAILED if findings else Outcome.PASSED
    return Result(wanted.name, wanted.about, outcome, tuple(findings))
