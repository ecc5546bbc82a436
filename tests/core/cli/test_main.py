"""``gatepost`` itself: help, exit statuses, which configuration."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import gatepost
from gatepost.cli import COMMANDS
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


def test_help_needs_neither_rich_nor_uvloop_nor_a_plugin() -> None:
    asked = "import sys; from gatepost.cli import main; main(['--help'], standalone_mode=False)"
    wanted = "print([name for name in ('rich', 'gatepost_builtin', 'uvloop') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{asked}; {wanted}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
