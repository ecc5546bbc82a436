"""A third party's plugin, in its own package that pip installs, takes part once the configuration names it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.client import message, record_of, send
from tests.end_to_end.gate import Gate, configuration, run

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "gatepost-blocklist"
version = "1.2.3"

[project.entry-points."gatepost.plugins"]
blocklist = "gatepost_blocklist:Blocklist"
"""
PLUGIN = '''
"""Refuse senders whose domain is on our list."""

from gatepost import Address, Decision, Options, Session, deny, hookimpl


class BlocklistOptions(Options):
    domains: frozenset[str]
    """Sender domains to refuse."""


class Blocklist:
    Options = BlocklistOptions

    def __init__(self, options: BlocklistOptions) -> None:
        self.options = options

    @hookimpl
    def mail(self, session: Session, sender: Address) -> Decision | None:
        if sender.domain in self.options.domains:
            return deny(f"{sender.domain} is not welcome here")
        return None
'''
POLICY = """
[plugins]
order = {order}
[plugins.recipients]
domains = ["example.test"]
[plugins.blocklist]
domains = ["bad.example"]
"""
WITHOUT, WITH = '["recipients", "discard"]', '["blocklist", "recipients", "discard"]'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which the package is installed beside gatepost."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "gatepost_blocklist.py").write_text(PLUGIN)
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", "-q", *offline, "--target", str(target), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])}


@contextmanager
def served(folder: Path, order: str, environ: dict[str, str]) -> Iterator[Gate]:
    with Gate(folder, configuration(folder, POLICY.format(order=order)), environ) as gate:
        yield gate


async def from_bad(gate: Gate) -> bytes:
    """Return the reply to mail from a domain on the list."""
    return await send(gate.port, "b@example.test", message("<x@example.org>"), sender="a@bad.example")


async def test_it_does_nothing_before_it_is_named(tmp_path: Path, installed: dict[str, str]) -> None:
    with served(tmp_path, WITHOUT, installed) as gate:
        assert (await from_bad(gate)).startswith(b"250 2.0.0")


async def test_it_takes_part_when_it_is_named(tmp_path: Path, installed: dict[str, str]) -> None:
    with served(tmp_path, WITH, installed) as gate:
        refused = await from_bad(gate)
        assert refused.startswith(b"550 5.7.1 bad.example is not welcome here [")
        assert gate.wait_for("refused", plugin="blocklist", id=record_of(refused))
        assert (await send(gate.port, "b@example.test", message("<y@example.org>"))).startswith(b"250 2.0.0")


def test_naming_a_plugin_that_is_not_installed_stops_the_start(tmp_path: Path) -> None:
    config = configuration(tmp_path, POLICY.format(order=WITH))
    done = run("serve", "--config", str(config), folder=tmp_path)
    assert done.returncode == 78
    assert "blocklist" in done.stderr and "Traceback" not in done.stderr


def test_it_is_listed_with_its_package(tmp_path: Path, installed: dict[str, str]) -> None:
    config = configuration(tmp_path, POLICY.format(order=WITH))
    done = run("plugins", "--json", "--config", str(config), environ=installed, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = [row for row in json.loads(done.stdout) if row["name"] == "blocklist"]
    assert (row["package"], row["version"], row["phases"]) == ("gatepost-blocklist", "1.2.3", ["mail"])
