"""Options for the tests of this folder, and two ways to read a value."""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from gatepost.options import (
    Duration,
    Network,
    Options,
    Secret,
    Size,
)

FROM_FILE = {"folder": Path("/etc/gatepost"), "environ": {}}


class Zone(Options):
    points: float
    answers: tuple[str, ...] = ()


class Example(Options):
    """Options of all kinds."""

    count: int = 1
    """How many."""
    share: float = 0.5
    enabled: bool = True
    delay: Duration = 6.0
    """How long to wait."""
    written_delay: Duration = "90s"  # type: ignore[assignment]
    limit: Size = 2048
    domains: frozenset[str] = frozenset({"b.example", "a.example"})
    networks: tuple[Network, ...] = ()
    action: Literal["deny", "defer"] = "deny"
    password: Secret | None = None
    zones: dict[str, float | Zone] = Field(default_factory=dict)


class Required(Options):
    domains: list[str]


def read(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value, context=FROM_FILE)


def refusal(kind: Any, value: object, context: dict[str, Any] | None = None) -> str:
    """The sentence with which a value is refused."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value, context=context or FROM_FILE)
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")
