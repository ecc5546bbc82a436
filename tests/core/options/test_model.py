"""Options have the types of their fields, are frozen, and never take a name of the core."""

from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from gatepost.options import (
    CORE_KEYS,
    Options,
)
from tests.core.options.examples import Example


def test_options_have_their_defaults() -> None:
    options = Example()
    assert (options.count, options.enabled, options.delay, options.action) == (1, True, 6.0, "deny")


def test_a_default_written_as_text_is_read_like_the_file() -> None:
    assert Example().written_delay == 90.0


def test_lists_become_the_collection_that_the_field_wants() -> None:
    options = Example.model_validate({"domains": ["x.example"], "networks": ["192.0.2.0/24"]})
    assert options.domains == {"x.example"}
    assert options.networks == (ip_network("192.0.2.0/24"),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": "5"},
        {"count": True},
        {"count": 5.0},
        {"share": "0.5"},
        {"share": True},
        {"enabled": 1},
        {"enabled": "yes"},
        {"domains": ["a", 5]},
        {"domains": "a"},
        {"action": "refuse"},
        {"zones": {"x": {"points": "1"}}},
        {"zones": {"x": True}},
        {"unknown": 1},
    ],
)
def test_a_value_of_another_type_is_refused_and_never_converted(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(wrong)


def test_a_whole_number_does_for_a_number() -> None:
    assert Example(share=1).share == 1.0


def test_options_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Example().count = 2


def test_the_error_of_pydantic_does_not_repeat_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate({"count": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", CORE_KEYS)
def test_a_name_of_the_core_is_refused_where_the_class_is_made(name: str) -> None:
    with pytest.raises(TypeError, match=f"Broken may not have an option named {name}"):
        type("Broken", (Options,), {"__annotations__": {name: str}, "__module__": __name__})


def test_options_may_be_named_as_fields_of_the_core_that_are_no_keys() -> None:
    class Free(Options):
        name: str
        options: int
        default: bool
        type: str
        model_name: str = ""

    assert Free.model_validate({"name": "a", "options": 1, "default": True, "type": "t"}).options == 1
    with pytest.raises(ValidationError):
        Free.model_validate({"name": "a", "options": "1", "default": 1, "type": "t"})
