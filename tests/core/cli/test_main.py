"""``gatepost`` itself: help, exit statuses, which configuration."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

import gatepost
from gatepost.cli import COMMANDS, main
from gatepost.gate.gate import Gate
from tests.core.cli.running import SOUND, Folder, facts, run


def test_help_names_every_command_and_exit_status_and_how_to_complete() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in COMMANDS)
    assert all(f"\n    {status} " in result.stdout for status in (0, 1, 2, 78))
    assert "_GATEPOST_COMPLETE=bash_source" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {name}")


READING = [(name,) for name in COMMANDS if name not in ("init", "config")] + [("config", "show"), ("config", "schema")]


@pytest.mark.parametrize("command", READING)
def test_every_command_that_reads_a_configuration_takes_it_the_same_way(command: tuple[str, ...]) -> None:
    assert "--config PATH" in run(*command, "--help").stdout


def test_the_version_is_that_of_the_package_and_of_the_hooks_and_says_whether_it_is_compiled() -> None:
    how = "interpreted" if inspect.isfunction(Gate.begin) else "compiled"
    assert run("--version").stdout == f"gatepost {version('gatepost')} {how}, hooks version {gatepost.HOOKS_VERSION}\n"


def test_a_wrong_command_line_is_status_2() -> None:
    assert run("serv").exit_code == 2
    assert run("try", "--ip", "not an address").exit_code == 2
    assert run("explain").exit_code == 2


@pytest.mark.parametrize("arguments", [("serve",), ("check",), ("try",), ("explain", "x"), ("plugins", "--order")])
def test_a_wrong_configuration_is_status_78_with_every_mistake(folder: Folder, arguments: tuple[str, ...]) -> None:
    path = folder.write('[limits]\nidle = "soon"\nunknown = 1\n')
    result = run(*arguments, "--config", path)
    assert result.exit_code == 78
    assert f"{path}:2: limits.idle" in result.output and f"{path}:3: limits.unknown" in result.output


def test_the_configuration_is_the_named_one_else_the_variable_s_else_the_one_here(folder: Folder) -> None:
    for name in ("named", "variable", "gatepost"):
        (folder.path / f"{name}.toml").write_text(SOUND)
    environment = {"GATEPOST_CONFIG": "variable.toml"}
    assert facts("check", "--config", "named.toml", env=environment)["source"] == "named.toml"
    assert facts("check", env=environment)["source"] == "variable.toml"
    assert facts("check")["source"] == "gatepost.toml"


def test_without_a_configuration_it_is_the_embedded_default(folder: Folder) -> None:
    assert facts("check")["source"] == "the embedded default"


def imported(*arguments: str) -> set[str]:
    """Return the modules that a command imports, in a process of its own in which nothing else is imported."""
    asked = f"import sys; from gatepost.cli import main\ntry: main({list(arguments)!r})\nexcept SystemExit: pass\n"
    wanted = "print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked + wanted], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


LIBRARIES = {"pydantic", "dns", "aiosmtplib", "rich", "pluggy", "orjson", "uvloop", "publicsuffixlist", "packaging"}
COSTLY = {"asyncio", "ssl", "sqlite3", "email", "tomllib", "importlib.metadata", "gatepost_builtin"}
"""Modules that take time to import, of the standard library and our own."""


def test_help_imports_no_library_but_click_and_nothing_that_takes_time() -> None:
    modules = imported("--help")
    assert not modules & (LIBRARIES | COSTLY)
    assert {module for module in modules if module.startswith("gatepost")} == {
        "gatepost",
        "gatepost.cli",
        "gatepost.errors",
    }


def test_the_help_of_a_command_imports_no_library_but_click() -> None:
    for command in ("check", "serve", "init", "explain"):
        assert not imported(command, "--help") & (LIBRARIES | COSTLY - {"tomllib"})


def test_check_of_the_default_imports_neither_the_server_nor_what_prints(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    asked = (
        "import sys; from gatepost.cli import main\ntry: main(['check'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert "gatepost.rehearsal.check" in modules
    assert not packages(modules) & {"rich", "uvloop", "publicsuffixlist"}
    assert not modules & {"gatepost.server.server", "gatepost.doors"}


def test_the_summary_of_each_command_in_the_help_is_that_of_the_command() -> None:
    context = click.Context(main)
    for name, listed in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert listed.summary == command.get_short_help_str(200)
