"""The unchanged package of each phase, installed offline, passes its own checks and takes part in a gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.client import Client, connected, message
from tests.end_to_end.gate import Gate, configuration, run
from tests.patience import PROGRAM_PATIENCE
from tests.template.baking import PHASES, bake
from tests.template.nameserver import Nameserver

OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
POLICY = """
[plugins]
order = ["{name}", "recipients", "discard"]
[plugins.recipients]
domains = ["example.test"]
[plugins.{name}]
{options}
[dns]
servers = ["127.0.0.1:{nameserver}"]
"""
RECIPIENTS = '[plugins.recipients]\ndomains = ["example.test"]\n'
OPTIONS = {
    "connect": 'spare = ["127.0.0.7"]',
    "mail": 'domains = ["bad.example"]',
    "rcpt": "limit = 1",
    "message": 'endings = ["exe"]',
}


Serve = Callable[[str], AbstractContextManager[Gate]]


@dataclass(frozen=True, slots=True)
class Installed:
    """The packages of all phases, and the environment in which they are installed beside gatepost."""

    packages: dict[str, Path]
    environ: dict[str, str]
    mypy_cache: Path

    def check(self, phase: str, *command: str) -> str:
        """Run a check in the folder of a package, as its author would. Returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.packages[phase],
            env=os.environ | self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PROGRAM_PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Bake a package for each phase and install them all without a network."""
    folder = tmp_path_factory.mktemp("packages")
    packages = {phase: bake(folder / phase, name=f"my_{phase}", phase=phase) for phase in PHASES}
    sources = [str(package) for package in packages.values()]
    pip = [sys.executable, "-m", "pip", "install", "-q", *OFFLINE, "--target", str(folder / "site"), *sources]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return Installed(packages, {"PYTHONPATH": os.pathsep.join(paths)}, folder / "mypy")


@asynccontextmanager
async def greeted(gate: Gate) -> AsyncIterator[Client]:
    """Connect a client and let it say EHLO."""
    async with connected(gate.port) as client:
        await client.greet()
        yield client


# Its own checks


@pytest.mark.parametrize("phase", PHASES)
def test_its_own_tests_pass(installed: Installed, phase: str) -> None:
    printed = installed.check(phase, "pytest", "-q", "-p", "no:cacheprovider")
    assert "passed" in printed and "skipped" not in printed


@pytest.mark.parametrize("phase", PHASES)
def test_its_types_are_strict(installed: Installed, phase: str) -> None:
    assert "no issues found in 2 source files" in installed.check(
        phase, "mypy", "--cache-dir", str(installed.mypy_cache)
    )


@pytest.mark.parametrize("phase", PHASES)
def test_its_readme_has_every_option_and_a_table_that_loads(installed: Installed, phase: str, tmp_path: Path) -> None:
    readme = (installed.packages[phase] / "README.md").read_text()
    pasted = readme.partition("```toml\n")[2].partition("```")[0]
    assert tomllib.loads(pasted)["plugins"]["order"][0] == f"my_{phase}"
    shown = json.loads(run("plugins", "show", f"my_{phase}", "--json", environ=installed.environ).stdout)
    assert shown["options"]
    for option in shown["options"]:
        assert f"| `{option['name']}` | " in readme and option["doc"].partition(". ")[0] in readme
    config = configuration(tmp_path, pasted.replace('"recipients", "forward"', '"recipients", "discard"') + RECIPIENTS)
    done = run("check", "--config", str(config), environ=installed.environ, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


# In a gate


@pytest.fixture
def serve(installed: Installed, tmp_path: Path) -> Serve:
    """Return a function that runs a server with the plugin of a phase."""

    @contextmanager
    def served(phase: str) -> Iterator[Gate]:
        with Nameserver() as nameserver:
            policy = POLICY.format(name=f"my_{phase}", options=OPTIONS[phase], nameserver=nameserver.port)
            with Gate(tmp_path, configuration(tmp_path, policy), installed.environ) as gate:
                yield gate

    return served


def test_the_plugins_are_listed_with_their_packages(installed: Installed, tmp_path: Path) -> None:
    done = run("plugins", "--json", environ=installed.environ, folder=tmp_path)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for phase in PHASES:
        row = rows[f"my_{phase}"]
        assert (row["package"], row["version"]) == (f"gatepost-my-{phase}", "0.1.0")
        assert (row["place"], row["phases"]) == ("", [phase])


async def test_the_plugin_of_connect_refuses_a_client_without_a_name(serve: Serve) -> None:
    with serve("connect") as gate:
        async with connected(gate.port) as client:
            assert (await client.greet()).startswith(b"554 5.7.25 your address has no name that resolves back to it [")
        assert gate.wait_for("refused", plugin="my_connect")
        async with connected(gate.port, source="127.0.0.7") as client:
            assert (await client.greet()).startswith(b"250")


async def test_the_plugin_of_mail_refuses_a_listed_domain_and_its_subdomains(serve: Serve) -> None:
    with serve("mail") as gate:
        async with greeted(gate) as client:
            refused = await client.envelope(["b@example.test"], "a@mail.bad.example")
            assert refused[0].startswith(b"550 5.7.1 mail from mail.bad.example is not welcome here [")
            assert gate.wait_for("refused", plugin="my_mail")
            await client.say("RSET")
            assert (await client.transaction("b@example.test", message("<x@y>"))).startswith(b"250")


async def test_the_plugin_of_rcpt_slows_down_a_client_with_many_recipients(serve: Serve) -> None:
    with serve("rcpt") as gate:
        async with greeted(gate) as client:
            first, second = await client.envelope(["b@example.test", "c@example.test"])
            assert first.startswith(b"250")
            assert second.startswith(b"450 4.7.1 you have named many recipients: come back later [")
            assert gate.wait_for("refused", plugin="my_rcpt")


async def test_the_plugin_of_message_refuses_a_forbidden_attachment(serve: Serve) -> None:
    attached = b'Content-Disposition: attachment; filename="invoice.pdf.EXE"\r\n' + message("<x@y>")
    with serve("message") as gate:
        async with greeted(gate) as client:
            refused = await client.transaction("b@example.test", attached)
            assert refused.startswith(b"550 5.7.1 attachments that end in .exe are not accepted here [")
            assert gate.wait_for("refused", plugin="my_message")
            assert (await client.transaction("b@example.test", message("<x@y>"))).startswith(b"250")
