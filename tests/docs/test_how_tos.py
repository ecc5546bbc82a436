"""Each how-to in the manual has a complete plugin, which does what the page says, with the options on the page."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gatepost.testing import MESSAGE, Client, Policy, conformance
from tests.docs.manual import ROOT, blocks

AUTHORS = ROOT / "docs/authors"
PAGES = {page.stem: page for page in sorted((AUTHORS / "how-to").glob("*.md")) if page.stem != "index"}
EXAMPLES = {page: page.replace("-", "_") for page in PAGES}
"""The plugin of each page, by the page's name."""
How = Callable[..., Policy]


@pytest.fixture
def how(policy: Callable[..., Policy]) -> How:
    """Return a function that makes a policy from the TOML of a page, with some text replaced."""

    def made(page: str, replaced: dict[str, str] | None = None, **settings: Any) -> Policy:
        (written,) = blocks(PAGES[page].read_text(encoding="utf-8"), "toml")
        for old, new in (replaced or {}).items():
            assert old in written
            written = written.replace(old, new)
        return policy(written, folder=AUTHORS / "examples", **settings)

    return made


@pytest.mark.parametrize("page", PAGES)
def test_a_how_to_shows_a_plugin_that_is_tested_here(page: str) -> None:
    text = PAGES[page].read_text(encoding="utf-8")
    assert f"```{{literalinclude}} ../examples/plugins/{EXAMPLES[page]}.py\n" in text
    assert f'use = "plugins/{EXAMPLES[page]}.py"' in text
    assert f"how-to/{page}\n" in (AUTHORS / "index.md").read_text(encoding="utf-8")
    assert any(name.startswith(f"test_{EXAMPLES[page]}_") for name in globals())


def test_every_plugin_of_the_how_tos_has_a_page() -> None:
    assert {file.stem for file in (AUTHORS / "examples/plugins").glob("*.py")} == set(EXAMPLES.values())


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder."""
    return list(folder.iterdir())


async def greeted(gate: Policy, address: str = "192.0.2.1") -> Client:
    """Return a client that has said EHLO."""
    client = await gate.connect(address)
    await client.ehlo()
    return client


async def test_settle_later_refuses_a_listed_domain(how: How) -> None:
    gate = how("settle-later")
    gate.dns.answer("bad.example.domains.example.net", "A", "127.0.0.2")
    reply = await (await gate.connect()).transaction("a@bad.example")
    assert (reply.code, reply.text) == (550, "bad.example is listed by domains.example.net")


async def test_settle_later_waits_at_rcpt_and_not_earlier(how: How) -> None:
    gate = how("settle-later")
    gate.dns.nxdomain("example.com.domains.example.net")
    gate.dns.delay("example.com.domains.example.net", "2s")
    client = await greeted(gate)
    assert ((await client.mail()).code, client.waited) == (250, 0.0)
    assert ((await client.rcpt()).code, client.waited) == (250, 2.0)


async def test_settle_later_lets_mail_pass_while_dns_fails(how: How) -> None:
    gate = how("settle-later")
    gate.dns.servfail("example.com.domains.example.net")
    assert (await (await gate.connect()).transaction()).code == 250


@pytest.mark.parametrize("sender", ["", "a@[192.0.2.1]"])
async def test_settle_later_queries_nothing_without_a_domain(how: How, sender: str) -> None:
    gate = how("settle-later")
    assert (await (await gate.connect()).transaction(sender)).code == 250
    assert gate.dns.asked == []


async def test_remember_makes_strangers_wait(how: How) -> None:
    gate = how("remember")
    client = await gate.connect()
    assert client.waited == 10.0
    await client.transaction()
    assert (await gate.connect()).waited == 0.0
    assert (await gate.connect("192.0.2.2")).waited == 10.0
    await gate.clock.advance("37d")
    assert (await gate.connect()).waited == 10.0


async def test_remember_makes_nobody_wait_while_the_store_fails(how: How) -> None:
    gate = how("remember")
    gate.store.broken.add("remember")
    client = await gate.connect()
    assert (client.banner.code, client.waited) == (220, 0.0)


async def test_add_points_refuses_for_two_reasons_and_not_for_one(how: How) -> None:
    gate = how("add-points")
    gate.dns.name("192.0.2.1")
    gate.dns.name("192.0.2.2", "mail.example.com")
    codes = {}
    for address in ("192.0.2.1", "192.0.2.2"):
        for name in ("localhost", "mail.example.com"):
            client = await gate.connect(address)
            await client.ehlo(name)
            codes[address, name] = (await client.transaction()).code
    assert [key for key, code in codes.items() if code != 250] == [("192.0.2.1", "localhost")]
    assert codes["192.0.2.1", "localhost"] == 550


async def test_look_ahead_queries_while_other_plugins_run(how: How) -> None:
    gate = how("look-ahead")
    gate.dns.answer("example.com", "TXT")
    gate.dns.delay("example.com", "2s")
    gate.dns.name("192.0.2.1")
    gate.dns.delay("1.2.0.192.in-addr.arpa", "2s")
    client = await greeted(gate)
    reply = await client.mail()
    assert client.waited == 2.0
    assert reply.ruling is not None
    said = {said.plugin: str(said) for said in reply.ruling.said}
    assert said["look_ahead"] == "points +1: example.com has no SPF record"


@pytest.mark.parametrize(("text", "given"), [("v=spf1 -all", False), ("something else", True)])
async def test_look_ahead_gives_a_point_to_a_domain_without_spf(how: How, text: str, given: bool) -> None:
    gate = how("look-ahead")
    gate.dns.answer("example.com", "TXT", text)
    gate.dns.name("192.0.2.1", "mail.example.com")
    reply = await (await greeted(gate)).mail()
    assert reply.ruling is not None
    assert any("SPF" in str(said) for said in reply.ruling.said) is given


class Api(BaseHTTPRequestHandler):
    """The API of the how-to, which knows one recipient and fails for another."""

    def do_GET(self) -> None:
        """Answer a request about a recipient."""
        known = {"/recipients/b%40example.org": 200, "/recipients/broken%40example.org": 500}
        right = self.headers["Authorization"] == "Bearer secret"
        self.send_response(known.get(self.path, 404) if right else 401)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002, the library's name
        """Log nothing."""


@pytest.fixture
def api() -> Iterator[str]:
    """Yield host and port of the API."""
    with HTTPServer(("127.0.0.1", 0), Api) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """Return the file with the token of the API."""
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def mailboxes(tmp_path: Path) -> Path:
    """Return a database with one mailbox."""
    path = tmp_path / "mailboxes.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE mailboxes (address TEXT PRIMARY KEY)")
        database.execute("INSERT INTO mailboxes VALUES ('b@example.org')")
    return path


@pytest.mark.parametrize("page", PAGES)
async def test_a_how_to_passes_the_conformance_kit(
    how: How, page: str, api: str, token: Path, mailboxes: Path, tmp_path: Path
) -> None:
    there = {
        "http-api": {"127.0.0.1:8080": api, "/etc/gatepost/token": str(token)},
        "blocking": {"/var/lib/mail/mailboxes.db": str(mailboxes)},
        "deliver": {"/var/spool/inbox": str(tmp_path)},
    }
    plugin = how(page, there.get(page)).plugin(EXAMPLES[page])
    report = await conformance.check(type(plugin), options=getattr(plugin, "options", None))
    assert report.passed, report


async def test_http_api_decides_whose_mail_is_taken(how: How, api: str, token: Path) -> None:
    gate = how("http-api", {"127.0.0.1:8080": api, "/etc/gatepost/token": str(token)}, failures="expected")
    client = await greeted(gate)
    await client.mail()
    replies = [await client.rcpt(f"{local}@example.org") for local in ("b", "nobody", "broken")]
    assert [(reply.code, reply.status) for reply in replies] == [(250, "2.1.5"), (550, "5.1.1"), (451, "4.3.0")]


async def test_blocking_looks_recipients_up(how: How, mailboxes: Path) -> None:
    client = await greeted(how("blocking", {"/var/lib/mail/mailboxes.db": str(mailboxes)}))
    await client.mail()
    assert [(await client.rcpt(f"{local}@example.org")).code for local in ("B", "c")] == [250, 450]


async def test_blocking_defers_while_there_is_no_database(how: How, tmp_path: Path) -> None:
    gate = how("blocking", {"/var/lib/mail/mailboxes.db": str(tmp_path / "none.db")}, failures="expected")
    assert (await (await gate.connect()).transaction()).code == 451


async def test_edit_headers_replaces_a_forged_name_by_the_verified_one(how: How) -> None:
    gate = how("edit-headers")
    gate.dns.name("192.0.2.1", "mail.example.com")
    await (await gate.connect()).transaction(content=b"x-client-name: bank.example\r\n" + MESSAGE)
    content = gate.next_hop.messages[0].content
    assert b"X-Client-Name: mail.example.com\r\n" in content
    assert b"bank.example" not in content


async def test_deliver_writes_a_file(how: How, tmp_path: Path) -> None:
    gate = how("deliver", {"/var/spool/inbox": str(tmp_path)})
    reply = await (await gate.connect()).transaction()
    assert reply.code == 250
    (file,) = files_in(tmp_path)
    assert file.suffix == ".eml" and file.stem in reply.text
    assert file.read_bytes().startswith(b"Return-Path: <a@example.com>\r\nDelivered-To: b@example.org\r\n")
    assert file.read_bytes().endswith(MESSAGE)


async def test_deliver_leaves_nothing_and_takes_nothing_when_it_fails(
    how: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError("the disk is full")

    gate = how("deliver", {"/var/spool/inbox": str(tmp_path)}, failures="expected")
    monkeypatch.setattr("os.fsync", full)
    assert (await (await gate.connect()).transaction()).code == 451
    assert files_in(tmp_path) == []
