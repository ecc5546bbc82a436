"""Options are described for the manual, also those of types without a description."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from gatepost.options import (
    Option,
    Options,
    describe,
)
from tests.core.options.examples import Example, Required


# describe
def test_every_option_is_described_for_the_manual() -> None:
    described = {option.name: option for option in describe(Example)}
    assert described["delay"] == Option("delay", "duration", '"6s"', "How long to wait.")
    assert described["count"] == Option("count", "whole number", "1", "How many.")
    assert {
        name: (option.type, option.default) for name, option in described.items() if name not in ("delay", "count")
    } == {
        "share": ("number", "0.5"),
        "enabled": ("true or false", "true"),
        "written_delay": ("duration", '"90s"'),
        "limit": ("size", '"2KiB"'),
        "domains": ("list of text", '["a.example", "b.example"]'),
        "networks": ("list of network", "[]"),
        "action": ('"deny" or "defer"', '"deny"'),
        "password": ("secret", "none"),
        "zones": ("table of number or table (points, answers)", "{}"),
    }


def test_a_required_option_is_described_as_such() -> None:
    assert describe(Required) == [Option("domains", "list of text", "required", "")]


class Odd(Options):
    call: Callable[[], None] | None = None


def test_a_type_that_says_nothing_of_itself_is_any_value() -> None:
    assert describe(Odd) == [Option("call", "any value", "none", "")]


class Tree(Options):
    branches: tuple["Tree", ...] = ()
    weight: int = 0


def test_a_model_that_contains_itself_is_exact_and_described_too() -> None:
    assert [(option.name, option.type) for option in describe(Tree)] == [
        ("branches", "list of table (branches, weight)"),
        ("weight", "whole number"),
    ]
    with pytest.raises(ValidationError):
        Tree.model_validate({"branches": [{"weight": "1"}]})
