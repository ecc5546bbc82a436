"""The configuration has the documented defaults, keeps the options of plugins, and warns about what does nothing."""

from __future__ import annotations

from pathlib import Path

from gatepost.config import (
    PluginTable,
    SocketAddress,
    load_config,
)
from gatepost.errors import Mistake
from tests.core.config.examples import MINIMAL, Write


def test_a_small_file_gets_the_documented_defaults(write: Write) -> None:
    config = load_config(write(f'hostname = "MX.example.org"\n{MINIMAL}'), {})
    assert config.hostname == "mx.example.org"
    assert config.listeners["smtp"].bind == (SocketAddress("127.0.0.1", 2525),)
    assert config.listeners["smtp"].plugins is None
    assert (config.grace, config.line_ends, config.user, config.order) == (30.0, "normalize", None, ())
    assert (config.limits.max_size, config.limits.idle, config.limits.recipients) == (50 * 2**20, 300.0, 1000)
    assert config.store.url == "sqlite:///var/lib/gatepost/state.db"
    assert (config.spool.path, config.spool.min_free) == (Path("/var/lib/gatepost/spool"), 100 * 2**20)
    assert config.journal.path == Path("/var/lib/gatepost/journal.db")
    assert (config.score.defer_at, config.score.deny_at) == (None, None)


def test_defaults_of_files_follow_the_state_folder_and_the_largest_message(write: Write, tmp_path: Path) -> None:
    text = f'state_dir = "state"\n{MINIMAL}[limits]\nmax_size = "10MiB"\n[journal]\nkeep = 5\n'
    config = load_config(write(text), {})
    assert config.state_dir == tmp_path / "state"
    assert config.store.url == f"sqlite://{tmp_path}/state/state.db"
    assert config.spool.path == tmp_path / "state/spool"
    assert config.spool.min_free == 20 * 2**20
    assert (config.journal.path, config.journal.keep) == (tmp_path / "state/journal.db", 5)


def test_a_written_value_is_not_replaced_by_a_derived_default(write: Write, tmp_path: Path) -> None:
    text = f'{MINIMAL}[store]\nurl = "sqlite:///x/y.db"\n[spool]\npath = "here"\nmin_free = 0\n[journal]\npath = "/j"\n'
    config = load_config(write(text), {})
    assert config.store.url == "sqlite:///x/y.db"
    assert (config.spool.path, config.spool.min_free) == (tmp_path / "here", 0)
    assert config.journal.path == Path("/j")


def test_a_plugin_table_is_parted_into_the_keys_of_the_core_and_the_options(write: Write) -> None:
    config = load_config(
        write(
            f"""{MINIMAL}
[plugins]
order = ["second", "access"]
[plugins.second]
use = "dnsbl"
mode = "observe"
time_limit = "5s"
on_error = "pass"
reject_at = "mail"
phases = ["connect"]
zones = {{ "other.example.net" = 3 }}
name = "an option"
options = 1
"""
        ),
        {},
    )
    assert config.order == ("second", "access")
    assert config.plugin("second") == PluginTable(
        name="second",
        use="dnsbl",
        mode="observe",
        time_limit=5.0,
        on_error="pass",
        reject_at="mail",
        phases=("connect",),
        options={"zones": {"other.example.net": 3}, "name": "an option", "options": 1},
    )


def test_a_plugin_without_a_table_has_the_defaults_and_its_own_name(write: Write) -> None:
    config = load_config(
        write('[listen.smtp]\nbind = ["[::1]:0"]\nplugins = ["relay"]\n[plugins]\norder = ["access"]\n'), {}
    )
    assert config.plugin("access") == PluginTable(name="access", use="access")
    assert set(config.plugin_tables) == {"access", "relay"}
    assert config.locate(("plugins", "access", "mode")).line == 5
    assert config.locate(("plugins", "relay")).line == 3


def test_options_do_not_show_in_the_representation(write: Write) -> None:
    config = load_config(write(f'{MINIMAL}[plugins]\norder = ["a"]\n[plugins.a]\npassword = "hunter2"\n'), {})
    assert "hunter2" not in f"{config!r} {config.plugin_tables}"


def test_a_table_that_no_order_names_is_a_warning(write: Write) -> None:
    path = write(f'{MINIMAL}[plugins]\norder = ["dnsbl"]\n[plugins.dnsbll]\n[plugins.dnsbl]\n')
    assert load_config(path, {}).warnings == (
        Mistake(str(path), 5, "plugins.dnsbll", 'no order names it, so it does nothing; did you mean "dnsbl"?'),
    )


def test_an_order_of_a_listener_counts(write: Write) -> None:
    path = write(f'{MINIMAL}plugins = ["a"]\n[plugins.a]\n')
    assert load_config(path, {}).warnings == ()


def test_that_nobody_listens_is_a_warning(write: Write) -> None:
    path = write("")
    sentence = 'there is no listener; write [listen.smtp] with bind = ["0.0.0.0:25"]'
    assert load_config(path, {}).warnings == (Mistake(str(path), 0, "listen", sentence),)
