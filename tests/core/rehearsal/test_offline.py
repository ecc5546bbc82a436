"""The services with which a policy is loaded and not run: they ask nobody and keep nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatepost import DNSTemporaryError
from gatepost.config import parse_config
from gatepost.rehearsal import offline_services


def files_in(folder: Path) -> list[Path]:
    """Return what is in a folder."""
    return list(folder.iterdir())


async def test_no_name_server_is_asked(tmp_path: Path) -> None:
    services = offline_services(parse_config("", tmp_path, "gatepost.toml"))
    with pytest.raises(DNSTemporaryError, match=r"'example\.com' MX: no name server is asked here"):
        await services.dns.query("example.com", "MX")
    with pytest.raises(DNSTemporaryError):
        await services.dns.verified_name("192.0.2.1")


async def test_no_store_is_opened_and_nothing_of_one_is_there_for_the_next(tmp_path: Path) -> None:
    config = parse_config(f'[store]\nurl = "sqlite://{tmp_path}/store.db"\n', tmp_path, "gatepost.toml")
    first = offline_services(config)
    await first.store.namespace("x").put("key", 1, 60.0)
    assert await first.store.namespace("x").get("key") == 1
    assert await offline_services(config).store.namespace("x").get("key") is None
    assert files_in(tmp_path) == []
