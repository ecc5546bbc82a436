"""The configuration says all that is wrong with it at once, each mistake with its line, and merges by simple rules."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from gatepost import config as config_module
from gatepost.config import (
    Config,
    PluginTable,
    SocketAddress,
    default_text,
    find_config_file,
    load_config,
    survey_config,
    validate_options,
)
from gatepost.config.source import Layers
from gatepost.errors import ConfigError, Mistake
from gatepost.options import Duration, Network, Options, Secret, Size, WatchedFile

MINIMAL = '[listen.smtp]\nbind = ["127.0.0.1:2525"]\n'

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes gatepost.toml and drop-ins by name, and gives the path of the first."""

    def write(text: str, **drop_ins: str) -> Path:
        path = tmp_path / "gatepost.toml"
        path.write_text(text)
        for name, content in drop_ins.items():
            (tmp_path / "gatepost.d").mkdir(exist_ok=True)
            (tmp_path / "gatepost.d" / f"{name}.toml").write_text(content)
        return path

    return write


def mistakes(path: Path | None, **environ: str) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ)
    return list(caught.value.mistakes)


# What a good file says


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


def test_what_is_kept_follows_the_state_folder_and_the_largest_message(write: Write, tmp_path: Path) -> None:
    text = f'state_dir = "state"\n{MINIMAL}[limits]\nmax_size = "10MiB"\n[journal]\nkeep = 5\n'
    config = load_config(write(text), {})
    assert config.state_dir == tmp_path / "state"
    assert config.store.url == f"sqlite://{tmp_path}/state/state.db"
    assert config.spool.path == tmp_path / "state/spool"
    assert config.spool.min_free == 20 * 2**20
    assert (config.journal.path, config.journal.keep) == (tmp_path / "state/journal.db", 5)


def test_what_is_written_is_not_derived(write: Write, tmp_path: Path) -> None:
    text = f'{MINIMAL}[store]\nurl = "sqlite:///x/y.db"\n[spool]\npath = "here"\nmin_free = 0\n[journal]\npath = "/j"\n'
    config = load_config(write(text), {})
    assert config.store.url == "sqlite:///x/y.db"
    assert (config.spool.path, config.spool.min_free) == (tmp_path / "here", 0)
    assert config.journal.path == Path("/j")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0.0.0.0:25", ("0.0.0.0", 25)),
        ("[::]:25", ("::", 25)),
        ("[fe80::1%eth0]:25", ("fe80::1%eth0", 25)),
        ("localhost:0", ("localhost", 0)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
    ],
)
def test_a_listener_binds_an_address_with_a_port(written: str, address: tuple[str, int], write: Write) -> None:
    config = load_config(write(f'[listen.smtp]\nbind = ["{written}"]\n'), {})
    assert config.listeners["smtp"].bind == (address,)
    assert str(config.listeners["smtp"].bind[0]) == written


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5300", ("127.0.0.1", 5300)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:54", ("::1", 54)),
    ],
)
def test_a_name_server_may_leave_out_its_port(written: str, address: tuple[str, int], write: Write) -> None:
    assert load_config(write(f'{MINIMAL}[dns]\nservers = ["{written}"]\n'), {}).dns.servers == (address,)


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


# One mistake of each kind

DURATION = 'expected a duration such as "10s", "5m" or "36d" (ms, s, m, h, d, w)'
SIZE = 'expected a size such as "25MiB" or "512KiB" (B, KiB, MiB, GiB, KB, MB, GB) or a number of octets'
ADDRESS = 'expected an IP address such as "127.0.0.1", "0.0.0.0" (all IPv4) or "[::]" (all IPv6)'
NO_NAME = (
    "cannot name a plugin: letters, digits, _, - and . can; "
    'a file is named by use in the plugin\'s table ([plugins.mine] use = "plugins/mine.py")'
)

KINDS = {
    "no TOML": ("hostname = \n", 1, "", "this is not TOML: Invalid value"),
    "an open text": (
        'user = "a\n',
        1,
        "",
        "this is not TOML: a text ends where its line does, without a quotation mark",
    ),
    "a key twice": ("user = 'a'\nuser = 'b'\n", 2, "", "this is not TOML: Cannot overwrite a value"),
    "unknown key": ("hostnam = 'a'\n", 1, "hostnam", 'unknown key; did you mean "hostname"?'),
    "unknown key far from all": ("[log]\nxyz = 1\n", 2, "log.xyz", "unknown key; known are format, level"),
    "unknown table": ("[limit]\nidle = '1s'\n", 1, "limit", 'unknown key; did you mean "limits"?'),
    "the field's name": ("[listeners.a]\n", 1, "listeners", 'unknown key; did you mean "listen"?'),
    "unknown key of a listener": (
        "[listen.a]\nbind = ['[::]:0']\nbnd = 1\n",
        3,
        "listen.a.bnd",
        'unknown key; did you mean "bind"?',
    ),
    "whole number": ("[limits]\nrecipients = '9'\n", 2, "limits.recipients", 'expected a whole number, found "9"'),
    "truth value for a number": (
        "[limits]\nrecipients = true\n",
        2,
        "limits.recipients",
        "expected a whole number, found true",
    ),
    "number": ("[score]\ndeny_at = '4'\n", 2, "score.deny_at", 'expected a number, found "4"'),
    "truth value": ("[journal]\nenabled = 1\n", 2, "journal.enabled", "expected true or false, found 1"),
    "text": ("user = 5\n", 1, "user", "expected text in quotes, found 5"),
    "list": ("[plugins]\norder = 'a'\n", 2, "plugins.order", "expected a list, found text"),
    "table": ("limits = 5\n", 1, "limits", "expected a table, found 5"),
    "plugin table": ("[plugins]\ndnsbl = 5\n", 2, "plugins.dnsbl", "expected a table, found 5"),
    "misspelt order": (
        '[plugins]\nordre = ["discard"]\n',
        2,
        "plugins.ordre",
        'expected a table, found a list; did you mean "order"?',
    ),
    "bind without a listener": ("[listen]\nbinds = []\n", 2, "listen.binds", "expected a table, found a list"),
    "all plugins": ("plugins = []\n", 1, "plugins", "expected a table, found a list"),
    "duration": ("grace = '5 min'\n", 1, "grace", f'{DURATION}, found "5 min"'),
    "duration without unit": (
        "grace = 5\n",
        1,
        "grace",
        'expected a duration with its unit such as "5s" or "5m", found 5',
    ),
    "duration too short": ("[limits]\nidle = '0s'\n", 2, "limits.idle", 'expected more than 0, found "0s"'),
    "size": ("[spool]\nmemory = 'x'\n", 2, "spool.memory", f'{SIZE}, found "x"'),
    "number too small": ("[limits]\nrefusals = 0\n", 2, "limits.refusals", "expected at least 1, found 0"),
    "one of some words": (
        "line_ends = 'normalise'\n",
        1,
        "line_ends",
        'expected "normalize" or "reject", found "normalise"; did you mean "normalize"?',
    ),
    "host name": (
        "hostname = 'mx\\nx'\n",
        1,
        "hostname",
        'expected the name of this host, such as mx.example.org, found "mx\\\\nx"',
    ),
    "store": (
        "[store]\nurl = 'redis://x'\n",
        2,
        "store.url",
        'expected "sqlite:///var/lib/gatepost/state.db" (a path from the root) or "memory:"',
    ),
    "missing key": ("[listen.a]\nplugins = []\n", 1, "listen.a.bind", "a required key is missing"),
    "nothing bound": ("[listen.a]\nbind = []\n", 2, "listen.a.bind", "expected at least 1 in the list, found 0"),
    "port too high": (
        "[listen.a]\nbind = ['[::]:65536']\n",
        2,
        "listen.a.bind[0]",
        'expected a port from 0 to 65535, found "65536"',
    ),
    "port no number": (
        "[listen.a]\nbind = ['[::]:smtp']\n",
        2,
        "listen.a.bind[0]",
        'expected a port from 0 to 65535, found "smtp"',
    ),
    "no port": (
        "[listen.a]\nbind = ['0.0.0.0']\n",
        2,
        "listen.a.bind[0]",
        '"0.0.0.0" has no port; write it behind a colon, such as "127.0.0.1:25" or "[::1]:25"',
    ),
    "IPv6 without brackets": (
        "[listen.a]\nbind = ['::1:25']\n",
        2,
        "listen.a.bind[0]",
        '"::1:25" is not clear; write an IPv6 address in brackets, such as "[::1]:25"',
    ),
    "brackets without IPv6": (
        "[listen.a]\nbind = ['[1.2.3.4]:25']\n",
        2,
        "listen.a.bind[0]",
        'expected an IPv6 address in the brackets, such as "[::1]", found "1.2.3.4"',
    ),
    "a name to bind": (
        "[listen.a]\nbind = ['mx.example:25']\n",
        2,
        "listen.a.bind[0]",
        f'{ADDRESS}, found "mx.example"',
    ),
    "a number to bind": (
        "[listen.a]\nbind = [\n25]\n",
        3,
        "listen.a.bind[0]",
        'expected an address in quotes such as "127.0.0.1:25", found 25',
    ),
    "bound twice": (
        "[listen.a]\nbind = ['[::]:25']\n[listen.b]\nbind = ['[::]:25']\n",
        1,
        "listen",
        "[::]:25 is bound twice, by a and by b",
    ),
    "bound twice by one": (
        "[listen.a]\nbind = ['[::]:25', '[::]:25']\n",
        1,
        "listen",
        "[::]:25 is bound twice, by a",
    ),
    "name server": ("[dns]\nservers = ['::1', 'x']\n", 2, "dns.servers[1]", f'{ADDRESS}, found "x"'),
    "scores": (
        "[score]\ndefer_at = 5\ndeny_at = 5\n",
        1,
        "score",
        "defer_at (5) must be below deny_at (5), or it never counts",
    ),
    "order twice": (
        "[plugins]\norder = ['a', 'b', 'a']\n",
        2,
        "plugins.order",
        '"a" is named twice; a plugin has one place in the order',
    ),
    "own order twice": (
        "[listen.a]\nbind = ['[::]:0']\nplugins = ['a', 'a']\n",
        3,
        "listen.a.plugins",
        '"a" is named twice; a plugin has one place in the order',
    ),
    "a file in the order": ("[plugins]\norder = ['a', 'p/m.py']\n", 2, "plugins.order[1]", f'"p/m.py" {NO_NAME}'),
    "a number in the order": (
        "[plugins]\norder = [5]\n",
        2,
        "plugins.order[0]",
        "expected the name of a plugin in quotes, found 5",
    ),
    "name of a plugin table": ("[plugins.'a b']\n", 1, 'plugins."a b"', f'"a b" {NO_NAME}'),
    "mode": (
        "[plugins.a]\nmode = 'observ'\n",
        2,
        "plugins.a.mode",
        'expected "enforce", "observe" or "off", found "observ"; did you mean "observe"?',
    ),
    "time limit": (
        "[plugins.a]\ntime_limit = 3\n",
        2,
        "plugins.a.time_limit",
        'expected a duration with its unit such as "3s" or "3m", found 3',
    ),
    "on_error": (
        "[plugins.a]\non_error = 'deny'\n",
        2,
        "plugins.a.on_error",
        'expected "defer" or "pass", found "deny"',
    ),
    "reject_at": (
        "[plugins.a]\nreject_at = 'data'\n",
        2,
        "plugins.a.reject_at",
        'expected "connect", "helo", "mail" or "rcpt", found "data"',
    ),
    "phases": ("[plugins.a]\nphases = 'rcpt'\n", 2, "plugins.a.phases", "expected a list, found text"),
    "use": ("[plugins.a]\nuse = 5\n", 2, "plugins.a.use", "expected text in quotes, found 5"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_has_file_line_key_and_what_is_allowed(kind: str, write: Write) -> None:
    text, line, key, message = KINDS[kind]
    path = write(text)
    assert [str(mistake) for mistake in mistakes(path)] == [str(Mistake(str(path), line, key, message))]


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.toml"
    assert mistakes(path) == [Mistake(str(path), 0, "", "cannot read the file: No such file or directory")]


def test_a_file_that_is_not_utf_8_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gatepost.toml"
    path.write_bytes(b"user = 'a'\ngrace = '\xff'\n")
    assert mistakes(path) == [Mistake(str(path), 2, "", "this is not UTF-8 text")]


def test_all_mistakes_are_told_at_once_over_all_sources(write: Write) -> None:
    path = write("grace = 5\n[limits]\nidle = 'x'\nrecipiants = 1\n", a="grace = = 1\n", b="[log]\nlevel = 'all'\n")
    found = mistakes(path, GATEPOST__LINE_ENDS="keep", GATEPOST____X="1")
    folder = path.parent / "gatepost.d"
    assert [(mistake.where, mistake.line, mistake.key) for mistake in found] == [
        (str(path), 1, "grace"),
        (str(path), 3, "limits.idle"),
        (str(path), 4, "limits.recipiants"),
        (f"{folder}/a.toml", 1, ""),
        (f"{folder}/b.toml", 2, "log.level"),
        ("GATEPOST__LINE_ENDS", 0, "line_ends"),
        ("GATEPOST____X", 0, ""),
    ]


def test_what_a_broken_file_may_have_said_is_not_called_missing(write: Write) -> None:
    path = write("[listen.smtp]\nbind = [\n", a="[listen.smtp]\nplugins = []\n")
    assert [mistake.line for mistake in mistakes(path)] == [2]


# Layers


def test_drop_ins_merge_tables_by_name_and_replace_the_rest(write: Write) -> None:
    config = load_config(
        write(
            f'{MINIMAL}[plugins]\norder = ["a", "b"]\n[plugins.a]\nlist = [1, 2]\nkept = 1\ndeep = {{ x = 1, y = 1 }}',
            **{
                "20-second": "[plugins.a]\nlast = 2\n",
                "10-first": '[plugins]\norder = ["b"]\n[plugins.a]\nlist = [3]\nlast = 1\ndeep.y = 2\n',
            },
        ),
        {},
    )
    assert config.order == ("b",)
    assert config.plugin("a").options == {"list": [3], "kept": 1, "deep": {"x": 1, "y": 2}, "last": 2}


def test_each_key_keeps_the_place_it_was_written_at(write: Write) -> None:
    path = write(f"{MINIMAL}[plugins.a]\nlist = [1,\n2]\nkept = 1\n", x="\n[plugins.a]\nlist = [\n3]\n")
    config = load_config(path, {"GATEPOST__PLUGINS__A__KEPT": "2"})
    drop_in = str(path.parent / "gatepost.d/x.toml")
    assert config.locate(("plugins", "a")) == (str(path), 3)
    assert config.locate(("plugins", "a", "list", 0)) == (drop_in, 4)
    assert config.locate(("plugins", "a", "list", 1)) == (drop_in, 3)
    assert config.locate(("plugins", "a", "kept")) == ("GATEPOST__PLUGINS__A__KEPT", 0)
    assert config.locate(("plugins", "a", "nowhere", "written")) == (str(path), 3)
    assert config.locate(("dns",)) == (str(path), 0)


def test_only_toml_files_that_are_not_hidden_are_drop_ins(write: Write) -> None:
    path = write(MINIMAL, a="grace = '1s'\n")
    (path.parent / "gatepost.d/.b.toml").write_text("grace = '2s'\n")
    (path.parent / "gatepost.d/c.toml.bak").write_text("grace = '3s'\n")
    assert load_config(path, {}).grace == 1.0


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOSTNAME", "mx.example.org", "mx.example.org"),
        ("HOSTNAME", '"mx.example.org"', "mx.example.org"),
        ("GRACE", "10s", 10.0),
        ("STATE_DIR", "/x\ny = 1", Path("/x\ny = 1")),
    ],
)
def test_a_variable_overrides_one_value(name: str, text: str, value: object, write: Write) -> None:
    config = load_config(write(f'hostname = "x"\n{MINIMAL}'), {f"GATEPOST__{name}": text})
    assert getattr(config, name.lower()) == value


def test_variables_reach_into_tables_and_other_variables_mean_nothing(write: Write) -> None:
    environ = {
        "GATEPOST__LISTEN__SMTP__BIND": '["127.0.0.1:2526"]',
        "GATEPOST__LIMITS__RECIPIENTS": "5",
        "GATEPOST__PLUGINS__A__ZONES": '{ "x.example" = 2 }',
        "GATEPOST_CONFIG": "elsewhere",
        "GATEPOST": "x",
    }
    config = load_config(write(f"{MINIMAL}[plugins.a]\nzones = {{ y = 1 }}\n"), environ)
    assert config.listeners["smtp"].bind == (("127.0.0.1", 2526),)
    assert config.limits.recipients == 5
    assert config.plugin("a").options == {"zones": {"y": 1, "x.example": 2}}


KEYS = st.sampled_from(["a", "b", "c"])
TABLES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
TOP = st.dictionaries(KEYS, TABLES, max_size=3)


def merged(*tables: dict[str, object]) -> Layers:
    layers = Layers()
    for number, table in enumerate(tables):
        layers.lay(table, str(number), {})
    return layers


@given(TOP, TOP, TOP)
def test_what_the_upper_layer_says_stands_and_the_rest_stays(
    low: dict[str, object], middle: dict[str, object], high: dict[str, object]
) -> None:
    assert merged(low, middle, high).merged == merged(merged(low, middle).merged, high).merged
    assert merged(low, low).merged == low
    assert merged(low, {}).merged == merged({}, low).merged == low
    assert merged(merged(low, high).merged, high).merged == merged(low, high).merged


@given(TOP, TOP)
def test_every_key_of_the_merged_tables_has_a_place_and_no_other(
    low: dict[str, object], high: dict[str, object]
) -> None:
    layers = merged(low, high)
    assert set(layers.places) == set(keys_of(layers.merged))


def keys_of(table: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(table, dict):
        return []
    return [found for key, part in table.items() for found in [(*path, key), *keys_of(part, (*path, key))]]


# The embedded default


def test_without_a_file_the_embedded_default_runs(tmp_path: Path) -> None:
    config = load_config(None, {"XDG_STATE_HOME": str(tmp_path)})
    state = tmp_path / "gatepost"
    assert config.state_dir == state
    assert config.listeners["smtp"].bind == (("127.0.0.1", 2525),)
    assert config.store.url == "memory:"
    assert config.order == ("earlytalker", "recipients", "maildir")
    assert config.plugin("earlytalker").options == {"delay": "3s", "remember": "0s"}
    assert config.plugin("recipients").options == {"domains": list(dict.fromkeys(["localhost", config.hostname]))}
    assert config.plugin("maildir").options == {"path": f"{state}/maildir/{{local}}"}
    assert config.warnings == ()
    assert config.folder == Path.cwd()


def test_without_a_state_folder_of_the_account_the_default_is_below_its_home() -> None:
    for environ in ({"HOME": "/home/a"}, {"HOME": "/home/a", "XDG_STATE_HOME": "relative"}):
        assert load_config(None, environ).state_dir == Path("/home/a/.local/state/gatepost")


def test_the_embedded_default_follows_the_variables() -> None:
    environ = {"GATEPOST__HOSTNAME": "mx.example", "GATEPOST__STATE_DIR": "/s", "GATEPOST__GRACE": "1s", "HOME": "/h"}
    config = load_config(None, environ)
    assert (config.hostname, config.state_dir, config.grace) == ("mx.example", Path("/s"), 1.0)
    assert config.plugin("recipients").options == {"domains": ["localhost", "mx.example"]}
    assert config.plugin("maildir").options == {"path": "/s/maildir/{local}"}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), min_size=1))
def test_the_embedded_default_is_toml_whatever_the_folder_is_named(name: str) -> None:
    text = default_text({"GATEPOST__STATE_DIR": name, "GATEPOST__HOSTNAME": "mx"})
    assert tomllib.loads(text)["state_dir"] == name


def test_a_machine_without_a_proper_name_is_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "no name")
    assert Config().hostname == "localhost"
    monkeypatch.setattr("socket.getfqdn", lambda: "MX.example.")
    assert Config().hostname == "mx.example"


# Which file


def test_the_file_asked_for_comes_before_the_variable_and_the_standard_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = tmp_path / "near.toml", tmp_path / "far.toml"
    monkeypatch.setattr(config_module, "STANDARD_PLACES", (near, far))
    assert find_config_file(None, {}) is None
    far.touch()
    assert find_config_file(None, {}) == far
    near.touch()
    assert find_config_file(None, {}) == near
    assert find_config_file(None, {"GATEPOST_CONFIG": "/x"}) == Path("/x")
    assert find_config_file(Path("/y"), {"GATEPOST_CONFIG": "/x"}) == Path("/y")


# Warnings


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
    sentence = 'nobody listens; write [listen.smtp] with bind = ["0.0.0.0:25"]'
    assert load_config(path, {}).warnings == (Mistake(str(path), 0, "listen", sentence),)


# Options of plugins


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


def test_options_are_validated_by_their_model(write: Write, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a\n")
    table = """
        domains = ["d"]
        delay = "1s"
        files = ["list"]
        password = { env = "PW" }
        zones = { a = 1, b = { points = 2 } }
    """
    config = configured(write, table, PW="hunter2")
    options = validate_options(Example, config.plugin("x"), config)
    assert (options.domains, options.delay) == ({"d"}, 1.0)
    assert options.files[0].lines() == ("a",)
    assert options.password == Secret("hunter2")
    assert options.zones == {"a": 1.0, "b": Zone(points=2)}


OPTION_KINDS = {
    "missing": ("delay = '1s'", 5, "domains", "a required key is missing"),
    "near miss": ("domains = []\ndelai = '1s'", 7, "delai", 'unknown key; did you mean "delay"?'),
    "near miss of a key of the core": (
        "domains = []\ntime_limt = '1s'",
        7,
        "time_limt",
        'unknown key; did you mean "time_limit"?',
    ),
    "number without unit": (
        "domains = []\ndelay = 10",
        7,
        "delay",
        'expected a duration with its unit such as "10s" or "10m", found 10',
    ),
    "list of other things": ("domains = [\n'a',\n5]", 8, "domains[1]", "expected text in quotes, found 5"),
    "a table for a duration": ("domains = []\ndelay = { s = 5 }", 7, "delay", f"{DURATION}, found a table"),
    "host bits": (
        "domains = []\nnetworks = ['10.0.0.1/8']",
        7,
        "networks[0]",
        '"10.0.0.1/8" has host bits set; did you mean "10.0.0.0/8"?',
    ),
    "neither of two kinds": (
        "domains = []\nzones.'a.b' = 'x'",
        7,
        'zones."a.b"',
        "expected a number or a table, found text",
    ),
    "the table of two kinds": (
        "domains = []\nzones.'a.b' = { points = 'x' }",
        7,
        'zones."a.b".points',
        'expected a number, found "x"',
    ),
    "missing in a table": ("domains = []\nzones.a = { text = 'x' }", 7, "zones.a.points", "a required key is missing"),
    "near miss in a table": (
        "domains = []\nzones.a = { points = 1, txt = 'x' }",
        7,
        "zones.a.txt",
        'unknown key; did you mean "text"?',
    ),
    "no such variable": (
        "domains = []\npassword = { env = 'NO' }",
        7,
        "password",
        "the environment variable NO is not set",
    ),
}


@pytest.mark.parametrize("kind", OPTION_KINDS)
def test_a_mistake_in_options_has_its_line(kind: str, write: Write) -> None:
    table, line, key, message = OPTION_KINDS[kind]
    config = configured(write, table)
    with pytest.raises(ConfigError) as caught:
        validate_options(Example, config.plugin("x"), config)
    where = str(config.folder / "gatepost.toml")
    assert [str(mistake) for mistake in caught.value.mistakes] == [
        str(Mistake(where, line, f"plugins.x.{key}", message))
    ]


def test_all_mistakes_in_options_are_told_at_once(write: Write) -> None:
    config = configured(write, "domains = 5\ndelay = 5\nlimit = 'x'\nzone = 1\n")
    with pytest.raises(ConfigError) as caught:
        validate_options(Example, config.plugin("x"), config)
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [
        (6, "plugins.x.domains"),
        (7, "plugins.x.delay"),
        (8, "plugins.x.limit"),
        (9, "plugins.x.zone"),
    ]


def test_a_mistake_in_a_plugin_without_a_table_is_where_the_order_names_it(write: Write) -> None:
    config = load_config(write(f'{MINIMAL}[plugins]\norder = [\n"a",\n"x"]\n'), {})
    with pytest.raises(ConfigError) as caught:
        validate_options(Example, config.plugin("x"), config)
    assert [(mistake.line, mistake.key) for mistake in caught.value.mistakes] == [(6, "plugins.x.domains")]


def test_a_plugin_without_options_knows_no_key(write: Write) -> None:
    config = configured(write, "xyz = 5\n")
    with pytest.raises(ConfigError, match=r"plugins\.x\.xyz: unknown key; there are no options here"):
        validate_options(Options, config.plugin("x"), config)


@pytest.mark.parametrize(
    "table",
    [
        "pasword = 'hunter2'",
        "password = ['hunter2']",
        "password = { text = 'hunter2' }",
        "accounts = 'alice:hunter2'",
        "accounts.alice = ['hunter2']",
        "zones.a = 'hunter2'",
        "zones.a = ['hunter2']",
        "domains = 'hunter2'",
        "delay = ['hunter2']",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(table: str, write: Write) -> None:
    config = configured(write, table)
    with pytest.raises(ConfigError) as caught:
        validate_options(Example, config.plugin("x"), config)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


# What is right beside what is wrong


def test_a_survey_names_every_mistake_and_reads_the_rest(write: Write) -> None:
    path = write(
        '[listen.smtp]\nbind = ["127.0.0.1:2525", "127.0.0.1:99999", "zz"]\n[listen.other]\nplugins = ["a"]\n'
        '[limits]\nidle = "5x"\nrecipients = 7\n[plugins]\norder = ["a", "bad name", "b"]\n'
        '[plugins.a]\nmode = "of"\nx = 1'
    )
    config, found = survey_config(path, {})
    assert [mistake.line for mistake in found] == [2, 2, 3, 6, 9, 11]
    assert config is not None
    assert config.listeners.keys() == {"smtp"}
    assert [str(address) for address in config.listeners["smtp"].bind] == ["127.0.0.1:2525"]
    assert (config.limits.idle, config.limits.recipients) == (300.0, 7)
    assert (config.order, config.plugin("a").mode, config.plugin("a").options) == (("a", "b"), "enforce", {"x": 1})


def test_a_survey_of_text_that_is_no_toml_has_no_rest(write: Write) -> None:
    config, found = survey_config(write("this is no TOML"), {})
    assert config is None and len(found) == 1


def test_a_survey_leaves_out_a_table_that_lacks_what_was_wrong_in_it(write: Write) -> None:
    config, found = survey_config(write('[listen.smtp]\nbind = ["zz"]\n[plugins]\norder = ["a"]\n'), {})
    assert config is not None
    assert (len(found), config.listeners, config.order) == (1, {}, ("a",))
