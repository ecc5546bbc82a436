"""Messages that reach a limit exactly pass, and one octet or field more is refused. The limits are the defaults."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gatepost import deny
from tests.door import Keeping, live
from tests.policy import Policy, saying, vouching


async def answer(content: bytes, keeping: Keeping, **how: object) -> bytes:
    """The reply to a message."""
    async with live(Policy(vouching(), keeping, **how)) as door:
        wire = await door.hello()
        await wire.envelope()
        return await wire.message(content)


@pytest.mark.parametrize(("more", "reply"), [(0, b"250 "), (1, b"552 5.3.4 ")])
async def test_a_header_block_of_exactly_header_size(more: int, reply: bytes) -> None:
    line = b"X-Field: " + b"x" * 32_757 + b"\r\n"
    block = line * 31 + b"X-Last: " + b"x" * (32_758 + more) + b"\r\n"
    assert len(block) == 1_048_576 + more
    assert (await answer(block + b"\r\nbody\r\n", keeping := Keeping())).startswith(reply)
    assert len(keeping.contents) == 1 - more


@pytest.mark.parametrize("tail", [b"\r\nbody\r\n", b"text\r\n", b""])
@pytest.mark.parametrize(("more", "reply"), [(0, b"250 "), (1, b"554 5.4.6 ")])
async def test_exactly_as_many_received_fields_as_received_says(tail: bytes, more: int, reply: bytes) -> None:
    hops = b"Received: from a by b\r\n\t(folded)\r\n" * 99 + b"RECEIVED\t: x\r\n" * (1 + more)
    harmless = b"X-Received: x\r\nReceived-SPF: pass\r\nX: y\r\n received: folded\r\n"
    assert (await answer(hops + harmless + tail, Keeping())).startswith(reply)


@pytest.mark.parametrize("tail", [b"\r\nbody\r\n", b"text\r\n", b""])
@pytest.mark.parametrize(("more", "reply"), [(0, b"250 "), (1, b"552 5.3.4 ")])
async def test_exactly_as_many_fields_as_header_fields_says(tail: bytes, more: int, reply: bytes) -> None:
    assert (await answer(b"a: b\r\n folded\r\n\tagain\r\n" * (1000 + more) + tail, Keeping())).startswith(reply)


@pytest.mark.parametrize("stuffed", [b"", b"..\r\n" * 100])
@pytest.mark.parametrize(("more", "reply"), [(0, b"250 "), (1, b"552 5.3.4 ")])
async def test_a_message_of_exactly_max_size(stuffed: bytes, more: int, reply: bytes) -> None:
    kept = b"Subject: x\r\n\r\n" + stuffed.replace(b"..", b".")
    rest = b"x" * (20_000 + more - len(kept) - 2) + b"\r\n"
    assert len(kept + rest) == 20_000 + more
    sent = b"Subject: x\r\n\r\n" + stuffed + rest  # what stuffing adds does not count
    assert (await answer(sent, Keeping(), limits={"max_size": 20_000})).startswith(reply)


async def test_a_message_refused_at_headers_is_read_to_its_end_and_not_spooled(tmp_path: Path) -> None:
    def spooled() -> list[str]:
        files = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
        return [file for file in files if file.startswith(str(tmp_path))]

    policy = Policy(vouching(), saying("headers", deny("spam")), Keeping(), folder=tmp_path)
    async with live(policy) as door:
        wire = await door.connect()
        await wire.to_data()
        wire.send(b"Subject: x\r\n\r\n" + b"x" * 1000)
        await door.received(1000)
        for octets in (1_000_000, 2_000_000):
            wire.send((b"x" * 98 + b"\r\n") * 10_000)
            await door.received(octets)
            assert (spooled(), policy.runtime.spool.in_memory) == ([], 0)
        wire.send(b"\r\n.\r\n")
        assert (await wire.reply()).startswith(b"550 5.7.1 spam")
