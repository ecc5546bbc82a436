"""Every kind of mistake is one sentence with file, line, key and the allowed values, and repeats no secret."""

from __future__ import annotations

import pytest

from gatepost.config import (
    validate_options,
)
from gatepost.errors import ConfigError, Mistake
from gatepost.options import Options
from tests.core.config.examples import Example, Write, configured, mistakes

DURATION = 'expected a duration such as "10s", "5m" or "36d" (ms, s, m, h, d, w)'


SIZE = 'expected a size such as "25MiB" or "512KiB" (B, KiB, MiB, GiB, KB, MB, GB) or a number of octets'


ADDRESS = 'expected an IP address such as "127.0.0.1", "0.0.0.0" (all IPv4) or "[::]" (all IPv6)'


NO_NAME = (
    "is not a name for a plugin: use letters, digits, _, - and .; "
    'a file goes into the plugin\'s table ([plugins.mine] use = "plugins/mine.py")'
)


KINDS = {
    "no TOML": ("hostname = \n", 1, "", "this is not TOML: Invalid value"),
    "an open text": (
        'user = "a\n',
        1,
        "",
        "this is not TOML: a string ends with its line, without a quotation mark",
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
        'expected "sqlite:///var/lib/gatepost/state.db" (an absolute path) or "memory:"',
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
        '"0.0.0.0" has no port; add it after a colon, as in "127.0.0.1:25" or "[::1]:25"',
    ),
    "IPv6 without brackets": (
        "[listen.a]\nbind = ['::1:25']\n",
        2,
        "listen.a.bind[0]",
        '"::1:25" is ambiguous; write an IPv6 address in brackets, such as "[::1]:25"',
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
        '"a" is listed twice; a plugin has one place in the order',
    ),
    "own order twice": (
        "[listen.a]\nbind = ['[::]:0']\nplugins = ['a', 'a']\n",
        3,
        "listen.a.plugins",
        '"a" is listed twice; a plugin has one place in the order',
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
    "a reserved key": (
        "[plugins.a]\nobserve = true\n",
        2,
        "plugins.a.observe",
        "observe is reserved for a later version",
    ),
    "another reserved key": (
        "[plugins.a]\ninstead = 'discard'\n",
        2,
        "plugins.a.instead",
        "instead is reserved for a later version",
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


OPTION_KINDS = {
    "missing": ("delay = '1s'", 5, "domains", "a required key is missing"),
    "near miss": ("domains = []\ndelai = '1s'", 7, "delai", 'unknown key; did you mean "delay"?'),
    "near miss of a key of the core": (
        "domains = []\ntime_limt = '1s'",
        7,
        "time_limt",
        'unknown key; did you mean "time_limit"?',
    ),
    "near miss of a reserved key": (
        "domains = []\ninstaed = 'x'",
        7,
        "instaed",
        "unknown key; known are accounts, delay, domains, files, limit, networks, password, zones",
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
