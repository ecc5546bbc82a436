"""``gatepost config`` says what holds and where it was said, and what may be said, without a secret."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, version

import jsonschema
import pytest

from gatepost.config import load_config
from gatepost.plugins.discovery import GROUP
from tests.core.cli.running import SOUND, Folder, facts, run

SAFE = '''"""Keep a secret. That is all."""
from gatepost import Options, Secret, hookimpl


class SafeOptions(Options):
    password: Secret
    """A text that must not be shown."""
    lists: tuple[str, ...] = ()
    """Some texts."""


class Safe:
    Options = SafeOptions

    def __init__(self, options):
        self.options = options

    @hookimpl
    def mail(self):
        return None
'''
WITH_SAFE = SOUND.replace('"recipients", "discard"', '"safe", "recipients", "discard"') + (
    '[plugins.safe]\nuse = "safe.py"\npassword = "hunter2"\nlists = ["\\u001b[31m", "back\\\\slash"]\n'
)


# show


def test_each_value_stands_with_its_origin_as_toml_without_secrets(folder: Folder) -> None:
    path = folder.write(WITH_SAFE, safe=SAFE, d_50='[log]\nlevel = "warning"\n')
    result = run("config", "show", "--config", path, env={"GATEPOST__LIMITS__IDLE": "1m"})
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f'hostname = "mx.example.org"  # {path}:1'
    assert f'level = "warning"  # {folder.path}/gatepost.d/50.toml:2' in lines
    assert 'idle = "1m"  # GATEPOST__LIMITS__IDLE' in lines
    assert f'password = "**********"  # {path}:11' in lines
    assert "hunter2" not in result.output and "\x1b" not in result.output
    said = tomllib.loads(result.stdout)
    assert said["plugins"]["safe"] == {
        "use": "safe.py",
        "password": "**********",
        "lists": ["\x1b[31m", "back\\slash"],
    }
    assert said["plugins"]["order"] == ["safe", "recipients", "discard"]


def test_the_output_means_the_same_when_it_is_read_again(folder: Folder) -> None:
    path = folder.write(SOUND + '[plugins.dnsbl]\nzones = { "a.example" = 2, "b.example" = 3 }\n[plugins.greylist]\n')
    before = load_config(folder.config, {})
    for arguments in ((), ("--defaults",)):
        text = run("config", "show", "--config", path, *arguments).stdout
        folder.config.write_text(text)
        after = load_config(folder.config, {})
        assert after.model_dump(exclude={"plugins"}) == before.model_dump(exclude={"plugins"})
        assert after.plugin("dnsbl").options["zones"] == before.plugin("dnsbl").options["zones"]


def test_an_empty_table_and_a_default_without_a_value_are_shown(folder: Folder) -> None:
    path = folder.write(SOUND + "[plugins.greylist]\n")
    shown = run("config", "show", "--config", path).stdout.splitlines()
    assert f"[plugins.greylist]  # {path}:9" in shown
    shown = run("config", "show", "--config", path, "--defaults").stdout.splitlines()
    assert "# user =  # default" in shown and 'grace = "30s"  # default' in shown


def test_json_has_key_value_and_origin(folder: Folder) -> None:
    path = folder.write()
    rows = facts("config", "show", "--config", path)
    assert rows[0] == {"key": "hostname", "value": "mx.example.org", "origin": f"{path}:1"}
    assert rows[-1] == {"key": "plugins.recipients.domains", "value": ["example.org"], "origin": f"{path}:8"}


def test_without_a_file_it_shows_the_embedded_default(folder: Folder) -> None:
    assert 'delay = "3s"  # the embedded default:14' in run("config", "show").stdout.splitlines()


def test_wrong_values_are_shown_too_and_the_mistakes_are_counted(folder: Folder) -> None:
    path = folder.write(SOUND + '[limits]\nidle = 5\nrecipiants = "x"\n')
    result = run("config", "show", "--config", path)
    assert result.exit_code == 0
    assert f"idle = 5  # {path}:10" in result.stdout.splitlines()
    assert "The configuration has mistakes (2): gatepost check names them." in result.stderr


def test_a_file_that_is_no_toml_cannot_be_shown(folder: Folder) -> None:
    result = run("config", "show", "--config", folder.write("grace = \n"))
    assert result.exit_code == 78
    assert "this is not TOML" in result.stderr


def test_the_options_of_a_plugin_that_cannot_be_had_are_hidden_with_the_reason(folder: Folder) -> None:
    path = folder.write(WITH_SAFE, safe="raise RuntimeError('broken')")
    result = run("config", "show", "--config", path)
    assert result.exit_code == 0
    assert "hunter2" not in result.output
    assert "hidden: plugins.safe.use: " in result.stderr and "RuntimeError: broken" in result.stderr


# The environment and secrets


def test_a_secret_may_come_from_a_variable_that_itself_comes_from_a_variable(folder: Folder) -> None:
    path = folder.write(WITH_SAFE, safe=SAFE)
    environment = {"GATEPOST__PLUGINS__SAFE__PASSWORD": '{ env = "PW" }', "PW": "hunter3"}
    assert run("check", "--config", path, env=environment).exit_code == 0
    shown = run("config", "show", "--config", path, env=environment)
    assert tomllib.loads(shown.stdout)["plugins"]["safe"]["password"] == {"env": "PW"}
    assert "hunter" not in shown.output


def test_a_secret_in_a_variable_replaces_that_in_the_file_and_is_hidden(folder: Folder) -> None:
    path = folder.write(WITH_SAFE.replace('"hunter2"', '{ file = "nowhere" }'), safe=SAFE)
    assert run("check", "--config", path).exit_code == 78
    environment = {"GATEPOST__PLUGINS__SAFE__PASSWORD": "hunter3"}
    assert run("check", "--config", path, env=environment).exit_code == 0
    assert (
        'password = "**********"  # GATEPOST__PLUGINS__SAFE__PASSWORD'
        in run("config", "show", "--config", path, env=environment).stdout.splitlines()
    )


def test_a_secret_in_a_variable_that_reads_as_a_number_is_a_mistake_and_not_repeated(folder: Folder) -> None:
    path = folder.write(WITH_SAFE, safe=SAFE)
    result = run("check", "--config", path, env={"GATEPOST__PLUGINS__SAFE__PASSWORD": "12345"})
    assert result.exit_code == 78
    assert "GATEPOST__PLUGINS__SAFE__PASSWORD: plugins.safe.password: expected text" in result.output
    assert "12345" not in result.output
    assert run("check", "--config", path, env={"GATEPOST__PLUGINS__SAFE__PASSWORD": '"12345"'}).exit_code == 0


def test_a_secret_file_is_beside_the_configuration_wherever_gatepost_was_started(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.write(WITH_SAFE.replace('"hunter2"', '{ file = "pw" }'), safe=SAFE)
    (folder.path / "pw").write_text("hunter2\n")
    (folder.path / "elsewhere").mkdir()
    monkeypatch.chdir(folder.path / "elsewhere")
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert "hunter2" not in result.output


def test_no_command_that_looks_at_a_policy_shows_a_secret(folder: Folder) -> None:
    path = folder.write(WITH_SAFE, safe=SAFE)
    for arguments in (("check",), ("plugins",), ("plugins", "show", "safe"), ("config", "schema"), ("try",)):
        assert "hunter2" not in run(*arguments, "--config", path).output


# schema


def test_the_schema_has_every_installed_plugin_and_those_of_the_configuration(folder: Folder) -> None:
    path = folder.write(WITH_SAFE + '[plugins.second]\nuse = "dnsbl"\nzones = { a = 1 }\n', safe=SAFE)
    result = run("config", "schema", "--config", path)
    assert (result.exit_code, result.stderr) == (0, "")
    schema = json.loads(result.stdout)
    tables = schema["definitions"]["Plugins"]["properties"]
    assert {"order", "dnsbl", "greylist", "safe", "second"} <= set(tables)
    assert tables["safe"]["description"] == "Keep a secret. That is all."
    assert tables["safe"]["properties"]["password"]["description"] == "A text that must not be shown."
    assert tables["second"]["properties"].keys() == tables["dnsbl"]["properties"].keys()
    assert f"gatepost {version('gatepost')}" in schema["$comment"]
    jsonschema.Draft7Validator(schema).validate(tomllib.loads(folder.config.read_text()))


def test_the_schema_takes_what_init_writes_which_names_it_in_its_first_line(folder: Folder) -> None:
    run("init")
    text = folder.config.read_text()
    assert text.splitlines()[0] == "#:schema ./gatepost.schema.json"
    assert "gatepost config schema > gatepost.schema.json" in text
    schema = json.loads(run("config", "schema").stdout)
    jsonschema.Draft7Validator(schema).validate(tomllib.loads(text))


def test_a_plugin_that_cannot_be_had_is_left_out_of_the_schema_and_named(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [EntryPoint("x", "nowhere:X", GROUP)])
    result = run("config", "schema")
    assert result.exit_code == 0
    assert "x" not in json.loads(result.stdout)["definitions"]["Plugins"]["properties"]
    assert "left out: x of " in result.stderr and "cannot be imported: ModuleNotFoundError" in result.stderr


def test_a_configuration_that_cannot_be_read_leaves_the_installed_plugins(folder: Folder) -> None:
    schema = json.loads(run("config", "schema", "--config", folder.write("grace = \n")).stdout)
    assert "dnsbl" in schema["definitions"]["Plugins"]["properties"]


def test_the_schema_is_the_same_however_python_hashes() -> None:
    made = {
        subprocess.run(
            [sys.executable, "-c", "from gatepost.cli import main; main(['config', 'schema'])"],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
            cwd="/",
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1
