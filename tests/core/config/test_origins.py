"""The effective configuration has each value with its origin, and shows no secret, whatever mistakes it contains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr

from gatepost.config import survey_config
from gatepost.config.origins import MASK, entries
from gatepost.options import Duration, Options, Secret
from gatepost.options.kinds import dotted_key

HEAD = '[listen.smtp]\nbind = ["127.0.0.1:2525"]\n[plugins]\norder = ["x"]\n[plugins.x]\n'


class Account(Options):
    user: str
    password: Secret
    level: int = 1


class Example(Options):
    delay: Duration = 6.0
    text: str = ""
    url: str = ""
    domains: frozenset[str] = frozenset()
    zones: dict[str, float | Account] = Field(default_factory=dict)
    password: Secret | None = None
    either: int | Secret = 0
    other: SecretStr = SecretStr("unset")
    pair: tuple[str, Secret] | None = None
    accounts: dict[str, Secret] = Field(default_factory=dict)
    many: tuple[Account, ...] = ()
    anything: dict[str, Any] = Field(default_factory=dict)


class Odd(Options):
    call: Callable[[], None] | None = None
    text: str = ""


def shown(folder: Path, text: str, *, model: Any = Example, defaults: bool = False, **environ: str) -> dict[str, Any]:
    """Each key with its value and its origin."""
    path = folder / "gatepost.toml"
    path.write_text(text)
    config, _ = survey_config(path, environ)
    assert config is not None
    models = {} if model is None else {"x": model}
    return {
        dotted_key(entry.path): (entry.value, entry.origin.replace(f"{folder}/", ""))
        for entry in entries(config, models, with_defaults=defaults)
    }


def test_each_value_has_the_file_and_line_or_the_variable_that_counts(tmp_path: Path) -> None:
    (tmp_path / "gatepost.d").mkdir()
    (tmp_path / "gatepost.d/5.toml").write_text("\n[plugins.x]\nzones.b = 2\n")
    text = f'grace = "1s"\n{HEAD}delay = "3s"\nzones = {{ a = 1, b = 1 }}\n'
    assert shown(tmp_path, text, GATEPOST__PLUGINS__X__DELAY="9s", GATEPOST__LOG__LEVEL="debug") == {
        "grace": ("1s", "gatepost.toml:1"),
        "listen.smtp.bind": (["127.0.0.1:2525"], "gatepost.toml:3"),
        "plugins.order": (["x"], "gatepost.toml:5"),
        "plugins.x.delay": ("9s", "GATEPOST__PLUGINS__X__DELAY"),
        "plugins.x.zones.a": (1, "gatepost.toml:8"),
        "plugins.x.zones.b": (2, "gatepost.d/5.toml:3"),
        "log.level": ("debug", "GATEPOST__LOG__LEVEL"),
    }


def test_an_empty_table_is_a_value(tmp_path: Path) -> None:
    assert shown(tmp_path, HEAD)["plugins.x"] == ({}, "gatepost.toml:5")


def test_defaults_are_what_holds_and_come_with_the_rest(tmp_path: Path) -> None:
    found = shown(tmp_path, f'state_dir = "/s"\n{HEAD}password = "hunter2"\n', defaults=True)
    assert found["state_dir"] == ("/s", "gatepost.toml:1")
    assert found["store.url"] == ("sqlite:///s/state.db", "default")
    assert found["plugins.x.delay"] == ("6s", "default")
    assert found["plugins.x.time_limit"] == ("30s", "default")
    assert found["plugins.x.use"] == ("x", "default")
    assert found["user"] == (None, "default")
    assert "hunter2" not in str(found)


def test_options_that_are_wrong_have_no_defaults(tmp_path: Path) -> None:
    found = shown(tmp_path, f"{HEAD}delay = 5\n", defaults=True)
    assert found["plugins.x.delay"] == (5, "gatepost.toml:6")
    assert "plugins.x.text" not in found and found["plugins.x.mode"] == ("enforce", "default")


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("password = 'hunter2'", "password", MASK),
        ("password = 12345", "password", MASK),
        ("password = ['hunter2']", "password", [MASK]),
        ("password = { text = 'hunter2' }", "password.text", MASK),
        ("password = { file = 'hunter2', x = 'hunter2' }", "password.x", MASK),
        ("either = 'hunter2'", "either", MASK),
        ("other = 'hunter2'", "other", MASK),
        ("pair = ['me', 'hunter2']", "pair", ["me", MASK]),
        ("accounts.alice = 'hunter2'", "accounts.alice", MASK),
        ("accounts = 'alice:hunter2'", "accounts", MASK),
        ("many = [{ user = 'me', password = 'hunter2' }]", "many", [{"user": "me", "password": MASK}]),
        ("zones.a = { user = 'me', password = 'hunter2' }", "zones.a.password", MASK),
        ("zones.a = 'hunter2'", "zones.a", MASK),
        ("domains = 'hunter2'", "domains", MASK),
        ("pasword = 'hunter2'", "pasword", MASK),
        ("pasword = { x = ['hunter2'] }", "pasword.x", [MASK]),
        ("text = { password = 'hunter2' }", "text.password", MASK),
        ("url = 'redis://me:hunter2@127.0.0.1:6379/0'", "url", f"redis://me:{MASK}@127.0.0.1:6379/0"),
    ],
)
def test_a_value_that_is_or_may_be_a_secret_is_hidden(table: str, key: str, value: object, tmp_path: Path) -> None:
    found = shown(tmp_path, f"{HEAD}{table}\n")
    assert found[f"plugins.x.{key}"] == (value, "gatepost.toml:6")
    assert "hunter2" not in str(found) or "file" in table
    assert "hunter2" not in str(shown(tmp_path, f"{HEAD}{table}\n", defaults=True)) or "file" in table


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("text = 'words'", "text", "words"),
        ("url = 'lmtp://127.0.0.1:24'", "url", "lmtp://127.0.0.1:24"),
        ("domains = ['a.example']", "domains", ["a.example"]),
        ("either = 5", "either", MASK),
        ("zones.a = 5", "zones.a", 5),
        ("password = { file = 'secret' }", "password.file", "secret"),
        ("accounts.alice = { env = 'PW' }", "accounts.alice.env", "PW"),
        ("many = [{ user = 'me', password = { env = 'PW' } }]", "many", [{"user": "me", "password": {"env": "PW"}}]),
        ("anything = { a = ['b'] }", "anything.a", ["b"]),
        ("mode = 'observe'", "mode", "observe"),
    ],
)
def test_the_rest_is_shown_and_so_is_where_a_secret_is_to_be_found(
    table: str, key: str, value: object, tmp_path: Path
) -> None:
    assert shown(tmp_path, f"{HEAD}{table}\n")[f"plugins.x.{key}"][0] == value


def test_an_option_of_a_type_that_says_nothing_of_itself_is_hidden(tmp_path: Path) -> None:
    found = shown(tmp_path, f"{HEAD}call = 'hunter2'\ntext = 'words'\n", model=Odd)
    assert (found["plugins.x.call"][0], found["plugins.x.text"][0]) == (MASK, "words")


def test_of_a_plugin_that_cannot_be_had_everything_is_hidden_but_the_core_s_keys(tmp_path: Path) -> None:
    found = shown(tmp_path, f"{HEAD}mode = 'off'\ntext = 'hunter2'\nnumber = 5\n", model=None)
    assert found["plugins.x.mode"][0] == "off"
    assert (found["plugins.x.text"][0], found["plugins.x.number"][0]) == (MASK, MASK)


def test_a_secret_in_a_wrong_place_of_the_core_is_hidden(tmp_path: Path) -> None:
    found = shown(tmp_path, f"pasword = 'hunter2'\n{HEAD}[log]\npassword = 'hunter2'\n[plugins.y]\nz = 'hunter2'\n")
    assert "hunter2" not in str(found)
    assert "hunter2" not in str(shown(tmp_path, "plugins = 'hunter2'\nlimits = 'hunter2'\n"))
