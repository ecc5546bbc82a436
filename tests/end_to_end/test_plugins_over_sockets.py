"""Each built-in plugin in a running server, doing what only a whole server shows: files, restarts, real time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.end_to_end.client import connected, message, send, send_until_not
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate, configuration
from tests.peers.mail_server import MailServer
from tests.peers.rbldnsd import Rbldnsd

OURS = "b@example.test"
MAIL = message("<x@example.org>")
RECIPIENTS = """
[plugins.recipients]
domains = ["example.test"]
"""


def order(*names: str) -> str:
    return f"[plugins]\norder = {json.dumps(names)}\n" + RECIPIENTS


def restart(gate: Gate, policy: str | None = None) -> None:
    """Stop the server and start it again, with another policy if one is given."""
    gate.stop()
    if policy is not None:
        configuration(gate.folder, policy)
    gate.start()


def files_below(folder: Path, containing: bytes) -> list[Path]:
    """Return all files in the folder and below that contain these octets."""
    return [path for path in folder.rglob("*") if path.is_file() and containing in path.read_bytes()]


async def greeted_after(gate: Gate, source: str = "127.0.0.1") -> float:
    """Return the seconds after which a client is greeted."""
    start = time.monotonic()
    async with connected(gate.port, source=source) as client:
        assert (await client.reply()).startswith(b"220 gate.example.test ESMTP")
        return time.monotonic() - start


async def test_access_trusts_and_refuses_as_its_lists_say(start_gate: StartGate) -> None:
    gate = start_gate(
        order("access", "earlytalker", "recipients", "discard")
        + """
[plugins.earlytalker]
delay = "240s"
[plugins.access]
allow = [{ network = "127.0.0.7" }]
deny = [{ network = "127.0.0.8", reason = "not you" }, { recipient = "trap@example.test" }]
"""
    )
    await greeted_after(gate, "127.0.0.7")  # in time for a client that gives up after a minute
    async with connected(gate.port, source="127.0.0.8") as client:
        assert (await client.reply()).startswith(b"550 5.7.1 not you [")
        assert await client.wire.rest() == b""
    assert (await send(gate.port, "trap@example.test", MAIL, source="127.0.0.7")).startswith(b"550 5.7.1")


async def test_earlytalker_holds_a_client_once_even_if_the_server_is_restarted(start_gate: StartGate) -> None:
    policy = order("earlytalker", "recipients", "discard") + '[plugins.earlytalker]\ndelay = "{delay}"'
    gate = start_gate(policy.format(delay="1s"))
    assert await greeted_after(gate) >= 1
    restart(gate, policy.format(delay="240s"))  # longer than this client waits
    async with connected(gate.port) as client:
        await client.greet()
        await client.envelope([OURS])
        client.wire.send(b"DATA\r\n" + MAIL + b".\r\nMAIL FROM:<evil@example.org>\r\n")
        assert (await client.reply()).startswith(b"554 5.5.1")
        assert await client.wire.rest() == b""


async def test_dnsbl_gives_its_points_to_the_score(
    start_gate: StartGate, start_rbldnsd: Callable[[Mapping[str, Mapping[str, str]]], Rbldnsd]
) -> None:
    listed = "127.0.0.2 :127.0.0.2:test\n127.0.0.9 :127.0.0.2:seen\n"
    lists = start_rbldnsd({zone: {"ip4trie": listed} for zone in ("one.test", "two.test")})
    gate = start_gate(
        order("dnsbl", "recipients", "discard")
        + f"""
[plugins.dnsbl]
zones = {{ "one.test" = 2, "two.test" = 1.5 }}
ask_private = true
[score]
deny_at = 3
[dns]
servers = {json.dumps(lists.servers)}
"""
    )
    refused = await send(gate.port, OURS, MAIL, source="127.0.0.9")
    assert refused.startswith(b"550 5.7.1") and gate.wait_for("refused", plugin="score")
    assert (await send(gate.port, OURS, MAIL, source="127.0.0.10")).startswith(b"250 2.0.0")


async def test_greylist_remembers_when_the_server_is_restarted(start_gate: StartGate) -> None:
    gate = start_gate(order("recipients", "greylist", "discard") + '[plugins.greylist]\ndelay = "1s"\nby_name = false')
    assert (await send(gate.port, OURS, MAIL)).startswith(b"451 4.7.1 greylisted")
    assert (await send(gate.port, OURS, MAIL, sender="")).startswith(b"451 4.7.1 greylisted")
    restart(gate)
    reply = await send_until_not(b"451 4.7.1 greylisted", gate.port, OURS, MAIL)
    assert reply.startswith(b"250 2.0.0")
    assert (await send(gate.port, OURS, MAIL, sender="new@example.org")).startswith(b"451 4.7.1")


async def test_recipients_rereads_its_files_and_sends_nothing_on(start_gate: StartGate, tmp_path: Path) -> None:
    file = tmp_path / "mailboxes"
    file.write_text("b@example.test\n")
    gate = start_gate(f'[plugins]\norder = ["recipients", "discard"]\n[plugins.recipients]\nfiles = ["{file}"]')
    assert (await send(gate.port, OURS, MAIL)).startswith(b"250 2.0.0")
    assert (await send(gate.port, "c@example.test", MAIL)).startswith(b"550 5.1.1")
    for trick in ("b%elsewhere.example@example.test", "elsewhere.example!b@example.test", "b@elsewhere.example"):
        assert (await send(gate.port, trick, MAIL)).startswith(b"550 5.7.1")

    file.write_text("b@example.test\nc@example.test\n")
    assert (await send_until_not(b"550 5.1.1", gate.port, "c@example.test", MAIL)).startswith(b"250 2.0.0")


async def test_forward_passes_on_what_the_next_hop_says(start_gate: StartGate) -> None:
    answers = {"RCPT TO:<c@example.test>": "550 5.1.1 never heard of", ".": "250 2.0.0 queued as 4F00BA4"}
    async with MailServer(answers=answers) as server:
        gate = start_gate(order("recipients", "forward") + f'[plugins.forward]\nto = "{server.url}"')
        assert (await send(gate.port, "c@example.test", MAIL)).startswith(b"550 5.1.1 never heard of [")
        taken = await send(gate.port, OURS, MAIL)
        assert taken.startswith(b"250 2.0.0 queued as ") and b"4F00BA4" in taken
        (delivered,) = server.messages
        assert delivered.content.endswith(MAIL)
        await asyncio.to_thread(gate.stop)


async def test_maildir_keeps_hostile_local_parts_in_their_place(start_gate: StartGate, tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    gate = start_gate(order("recipients", "maildir") + f'[plugins.maildir]\npath = "{mail}/{{domain}}/{{local}}"')
    for hostile in ('"../../../escaped"@example.test', '".."@example.test', '"a/../../b"@example.test'):
        assert (await send(gate.port, hostile, MAIL)).startswith(b"250 2.0.0")
    files = files_below(tmp_path, containing=MAIL.replace(b"\r\n", b"\n"))
    assert len(files) == 3
    assert {file.parents[2] for file in files} == {mail / "example.test"}


async def test_discard_takes_everything_and_says_so(start_gate: StartGate) -> None:
    gate = start_gate(order("recipients", "discard"))
    assert any(line["level"] == "warning" and line.get("plugin") == "discard" for line in gate.log)
    assert b"discarded" in await send(gate.port, OURS, MAIL)
