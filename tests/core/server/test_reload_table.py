"""What changes at SIGHUP: each row of the manual's table, on a server that runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gatepost import config as configuration
from gatepost.events import Event
from gatepost.server.server import Server
from tests.end_to_end.client import Client, connected

PAGE = Path(__file__).parents[3] / "docs/operations.md"
APPLIES, AGAIN = "applies to new sessions", "is run again, for new sessions"
RESTART = "needs a restart; `restart_needed` names it"
FAILS = "nothing changes at all; `reload_failed` says why"

MINE = """
import os
from gatepost import Options, Secret, deny, hookimpl
class Mine:
    class Options(Options):
        word: Secret = "as before"
        names: tuple[str, ...] = ()
    def __init__(self, options):
        self.options = options
    @hookimpl
    def helo(self, hostname):
        if hostname in self.options.names:
            return deny("we know that name")
        if hostname == "word":
            return deny(f"the word is {self.options.word.reveal()}")
"""
POLICY = """
[listen.smtp]
bind = ["127.0.0.1:0"]
[store]
url = "memory:"
[plugins]
order = ["mine", "recipients", "discard"]
[plugins.recipients]
domains = ["example.org"]
files = ["list"]
[plugins.mine]
use = "mine.py"
reject_at = "helo"
word = { file = "word" }
"""


class Running:
    """A server, the file that it reads, and what it has logged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "gatepost.toml"
        self.environ: dict[str, str] = {}
        self.events: list[tuple[str, dict[str, object]]] = []
        (folder / "mine.py").write_text(MINE)
        (folder / "word").write_text("sesame\n")
        (folder / "list").write_text("bob@example.net\n")
        self.path.write_text(f'hostname = "mx.example.org"\nstate_dir = "{folder}/state"\n{POLICY}')
        self.server = Server(configuration.load_config(self.path, self.environ), self.path, self.environ)
        self.server.recorder.event = self.event  # type: ignore[method-assign]

    def event(self, event: Event, /, **facts: object) -> None:
        self.events.append((event.name, facts))

    def change(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))

    async def reload(self) -> dict[str, dict[str, object]]:
        """Reload as SIGHUP does. Return the facts of each event by its name."""
        self.events.clear()
        await self.server.reload()
        return dict(self.events)

    def client(self) -> Any:
        return connected(self.server.addresses["smtp"][0][1])

    async def say(self, *lines: str) -> bytes:
        """Return the last reply to these lines in a new session."""
        async with self.client() as client:
            await client.reply()
            return [await client.say(line) for line in lines][-1]

    async def helo(self, name: str) -> bytes:
        return await self.say(f"EHLO {name}")

    async def rcpt(self, recipient: str) -> bytes:
        return await self.say("EHLO x", "MAIL FROM:<a@example.com>", f"RCPT TO:<{recipient}>")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    made = Running(tmp_path)
    await made.server.start()
    try:
        yield made
    finally:
        await made.server.close()


Row = Callable[[Running], Awaitable[None]]
ROWS: dict[tuple[str, str], Row] = {}


def row(changed: str, at_sighup: str) -> Callable[[Row], Row]:
    """Name the row of the table that a function tries."""

    def add(function: Row) -> Row:
        ROWS[changed, at_sighup] = function
        return function

    return add


def table() -> list[tuple[str, str]]:
    """Return the rows of the table in the manual."""
    section = PAGE.read_text().partition("\n## Reload\n")[2].partition("\n## ")[0]
    rows = [re.split(r" \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")]
    return [(changed, then) for changed, then in rows[1:]]


def test_each_row_of_the_table_is_tried_and_no_other() -> None:
    assert table() == list(ROWS)


@pytest.mark.patches
@pytest.mark.parametrize("named", table(), ids=[changed for changed, _ in table()])
async def test_what_changes_at_sighup(running: Running, named: tuple[str, str]) -> None:
    await ROWS[named](running)


async def a_new_session_differs(running: Running, ask: Callable[[], Awaitable[bytes]], old: bytes, new: bytes) -> None:
    """Check that the answer is the old one before the reload and the new one after it."""
    assert (await ask()).startswith(old)
    said = await running.reload()
    assert list(said) == ["reloaded"]
    assert (await ask()).startswith(new)


@row("the order, `[plugins] order` or `plugins` of a listener", APPLIES)
async def order(running: Running) -> None:
    async with running.client() as client:
        old: Client = client
        await old.greet()
        running.change('["mine", "recipients", "discard"]', '["mine", "discard"]')
        await a_new_session_differs(running, lambda: running.rcpt("bob@example.net"), b"250", b"450")
        running.change("bind", 'plugins = ["recipients", "discard"]\nbind')
        await a_new_session_differs(running, lambda: running.rcpt("bob@example.net"), b"450", b"250")
        (reply,) = await old.envelope(["bob@example.net"])
        assert reply.startswith(b"250")  # a session in progress keeps its policy


@row("a plugin's table: its options and the keys that every plugin has", APPLIES)
async def options(running: Running) -> None:
    running.change("word = {", 'names = ["bad"]\nword = {')
    await a_new_session_differs(running, lambda: running.helo("bad"), b"250", b"550")
    running.change('use = "mine.py"', 'use = "mine.py"\nmode = "observe"')
    await a_new_session_differs(running, lambda: running.helo("bad"), b"550", b"250")


@row("`[score]`", APPLIES)
async def score(running: Running) -> None:
    text = (running.folder / "mine.py").read_text()
    (running.folder / "mine.py").write_text(
        text.replace('deny("we know that name")', 'points(3, "a name")').replace("deny,", "deny, points,")
    )
    running.change("word = {", 'names = ["bad"]\nword = {')
    said = await running.reload()
    assert list(said) == ["reloaded"]
    running.change("[plugins]", "[score]\ndeny_at = 3\n[plugins]")
    envelope = ("MAIL FROM:<a@example.com>", "RCPT TO:<bob@example.net>")
    await a_new_session_differs(running, lambda: running.say("EHLO bad", *envelope), b"250", b"550")


@row('a plugin that is a file (`use = "mine.py"`)', AGAIN)
async def file(running: Running) -> None:
    text = (running.folder / "mine.py").read_text()
    (running.folder / "mine.py").write_text(text.replace("the word is", "the new word is"))
    await a_new_session_differs(
        running, lambda: running.helo("word"), b"550 5.7.1 the word is", b"550 5.7.1 the new word is"
    )


@row("a plugin that is installed in another version", "stays as it was loaded until a restart")
async def package(running: Running) -> None:
    before = type(running.server._policies[-1][0].instances["recipients"].plugin)
    await running.reload()
    after = running.server._policies[-1][0].instances["recipients"].plugin
    assert type(after) is before  # the module is not imported again


@row("a drop-in in `gatepost.d`", APPLIES)
async def drop_in(running: Running) -> None:
    (running.folder / "gatepost.d").mkdir()
    (running.folder / "gatepost.d/10.toml").write_text('[plugins.mine]\nnames = ["bad"]\n')
    await a_new_session_differs(running, lambda: running.helo("bad"), b"250", b"550")


@row('a secret in a file (`{ file = "…" }`)', "is read again")
async def secret(running: Running) -> None:
    (running.folder / "word").write_text("swordfish\n")
    await a_new_session_differs(
        running, lambda: running.helo("word"), b"550 5.7.1 the word is sesame", b"550 5.7.1 the word is swordfish"
    )


@row("a list file of `recipients` or `access`", "is read again; it is without SIGHUP too, soon after the change")
async def list_file(running: Running) -> None:
    assert (await running.rcpt("ann@example.net")).startswith(b"550")
    (running.folder / "list").write_text("bob@example.net\nann@example.net\n")
    await running.reload()
    assert (await running.rcpt("ann@example.net")).startswith(b"250")


@row('an environment variable, of `GATEPOST__…` or `{ env = "…" }`', "keeps the value of the start")
async def environment(running: Running) -> None:
    # A process gets its environment when it starts; what is set elsewhere later does not reach it.
    assert running.server._environ is running.environ
    running.change('{ file = "word" }', '{ env = "WORD" }')
    failed = (await running.reload())["reload_failed"]
    assert "the environment variable WORD is not set" in str(failed["error"])


async def needs_restart(running: Running, *changes: tuple[str, str, str]) -> None:
    """Change one key after another, and check that each is named and that none has an effect."""
    keys: list[str] = []
    for old, new, key in changes:
        running.change(old, new)
        keys.append(key)
        said = await running.reload()
        assert sorted(str(said["restart_needed"]["keys"]).split(", ")) == sorted(str(sorted(keys)).split(", "))
    assert (await running.helo("word")).startswith(b"550 5.7.1 the word is sesame")


@row("`bind` of a listener", RESTART)
async def bind(running: Running) -> None:
    before = running.server.addresses
    await needs_restart(running, ('"127.0.0.1:0"', '"127.0.0.1:0", "127.0.0.2:0"', "listen.smtp.bind"))
    assert running.server.addresses == before


@row("`hostname`, `state_dir`, `user`, `grace`, `line_ends`", RESTART)
async def top(running: Running) -> None:
    folder = running.folder
    await needs_restart(
        running,
        ("mx.example.org", "mx2.example.org", "hostname"),
        ("[listen", 'grace = "1s"\n[listen', "grace"),
        ("[listen", 'line_ends = "reject"\n[listen', "line_ends"),
        ("[listen", 'user = "nobody"\n[listen', "user"),
    )
    async with running.client() as client:
        assert b"mx.example.org" in await client.reply()
    running.change(f"{folder}/state", f"{folder}/other")
    assert "state_dir" in str((await running.reload())["restart_needed"]["keys"])
    assert not (folder / "other").exists()


@row("`[limits]`, `[store]`, `[dns]`, `[spool]`, `[log]`, `[journal]`", RESTART)
async def tables(running: Running) -> None:
    await needs_restart(
        running,
        ("[plugins]", "[limits]\nrecipients = 1\n[plugins]", "limits.recipients"),
        ("[plugins]", '[dns]\ntimeout = "1s"\n[plugins]', "dns.timeout"),
        ("[plugins]", '[spool]\nmemory = "1KiB"\n[plugins]', "spool.memory"),
        ("[plugins]", '[log]\nlevel = "error"\n[plugins]', "log.level"),
        ("[plugins]", "[journal]\nenabled = false\n[plugins]", "journal.enabled"),
        ('"memory:"', f'"sqlite://{running.folder}/other.db"', "store.url"),
    )
    two = ("RCPT TO:<bob@example.net>", "RCPT TO:<bob@example.org>")
    assert (await running.say("EHLO x", "MAIL FROM:<a@example.com>", *two)).startswith(b"250")
    assert not (running.folder / "other.db").exists()


@row("a listener that is added or removed", FAILS)
async def listener(running: Running) -> None:
    running.change("word = {", 'names = ["bad"]\nword = {')
    running.change("[plugins]", '[listen.other]\nbind = ["127.0.0.1:0"]\n[plugins]')
    said = await running.reload()
    assert list(said) == ["reload_failed"]
    assert "listeners were added or removed (other)" in str(said["reload_failed"]["error"])
    assert (await running.helo("bad")).startswith(b"250")


@row("anything, if there is a mistake in the configuration", FAILS)
async def mistake(running: Running) -> None:
    running.change("word = {", 'names = ["bad"]\nwrod = {')
    said = await running.reload()
    assert list(said) == ["reload_failed"]
    assert 'did you mean "word"?' in str(said["reload_failed"]["error"])
    assert (await running.helo("bad")).startswith(b"250")
