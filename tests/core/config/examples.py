"""Configurations and options for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import Field

from gatepost.config import (
    Config,
    load_config,
)
from gatepost.errors import ConfigError, Mistake
from gatepost.options import Duration, Network, Options, Secret, Size, WatchedFile

MINIMAL = '[listen.smtp]\nbind = ["127.0.0.1:2525"]\n'


Write = Callable[..., Path]


def mistakes(path: Path | None, **environ: str) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)
    return list(caught.value.mistakes)


class Zone(Options):
    points: float
    text: str = ""


class Example(Options):
    domains: frozenset[str]
    delay: Duration = 6.0
    limit: Size = 0
    networks: tuple[Network, ...] = ()
    zones: dict[str, float | Zone] = Field(default_factory=dict)
    password: Secret | None = None
    accounts: dict[str, Secret] = Field(default_factory=dict)
    files: tuple[WatchedFile, ...] = ()


def configured(write: Write, table: str, **environ: str) -> Config:
    path = write(f'{MINIMAL}[plugins]\norder = ["x"]\n[plugins.x]\n{table}')
    return load_config(path, environ)
