"""Mistakes in a plugin's hooks and classes that would go unnoticed are refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Decision, deny, hookimpl
from gatepost.plugins.contract import problems_of
from gatepost.testing import Policy, instance


class WithoutSelf:
    @hookimpl
    def rcpt(recipient) -> None:  # type: ignore[no-untyped-def]  # noqa: N805
        """Is given the plugin as ``recipient``."""


class WithoutAnything:
    @hookimpl
    def rcpt() -> None:  # type: ignore[misc]
        """Cannot be called."""


class Twice:
    @hookimpl(specname="rcpt")
    def zebra(self) -> None: ...

    @hookimpl(specname="rcpt")
    def ant(self) -> None: ...


class FromElsewhere:
    @hookimpl
    def data_post(self) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "sentence"),
    [
        (WithoutSelf, "its rcpt has no self: 'recipient' would be the plugin itself"),
        (WithoutAnything, "its rcpt has no self"),
        (Twice, "it implements rcpt more than once: ant, zebra"),
        (FromElsewhere, "it implements 'data_post', which is not a phase; did you mean message?"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_hook_that_would_not_do_what_it_says_is_a_problem(plugin: type, sentence: str) -> None:
    assert list(problems_of(plugin)) == [sentence]


class Slow:
    """Declares how long one call of it may take."""

    time_limit = 45.0

    @hookimpl
    def rcpt(self) -> None: ...


@pytest.mark.parametrize(
    ("table", "seconds"), [({}, 45.0), ({"time_limit": "10s"}, 10.0), ({"time_limit": "30s"}, 30.0)]
)
def test_a_class_has_a_time_limit_of_its_own_which_its_table_overrides(table: dict[str, Any], seconds: float) -> None:
    made = Policy(instance(Slow, "slow", **table)).gate.instance("slow")
    assert made is not None and made.time_limit == seconds


@pytest.mark.parametrize(("value", "why"), [(0, "must be more than 0 s"), ("1m", "must be a number of seconds")])
def test_a_time_limit_that_is_none_is_refused(value: Any, why: str) -> None:
    (problem,) = problems_of(type("Odd", (Slow,), {"time_limit": value}))
    assert problem.startswith(f"its time_limit {why}")


@pytest.mark.parametrize(
    ("make", "advice"), [(lambda: deny("full", 452), "use defer"), (lambda: Decision(deny("").action, "x", 252), "")]
)
def test_a_code_of_the_other_class_names_the_right_verb(make: Any, advice: str) -> None:
    with pytest.raises(ValueError, match=rf"^reply code \d+ is not 5xx(; )?{advice}$"):
        make()
