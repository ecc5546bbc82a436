"""Commands: what a client gets that says them with a body behind a refused DATA. More stands in ``dialogues``."""

from __future__ import annotations

import asyncio
import re

import pytest

from gatepost import Decision, deny, hookimpl
from tests.door import live
from tests.policy import Policy, saying, vouching


class TestRefusedData:
    BODY = b"Subject: x\r\n\r\nNOOP\r\nMAIL FROM:<evil@example.com>\r\n.\r\nQUIT\r\n"

    async def test_body_behind_a_refused_data(self) -> None:
        async with live(Policy(vouching(), saying("data", deny("not now")))) as door:
            wire = await door.hello()
            await wire.envelope()
            wire.send(b"DATA\r\n" + self.BODY)
            assert re.fullmatch(rb"554 5\.7\.1 not now \[\w+\]\r\n", await wire.rest())

    @pytest.mark.parametrize("line", [b"DATA", b"DATA now"])
    async def test_body_behind_a_data_that_is_out_of_order_or_wrong(self, line: bytes) -> None:
        async with live(Policy(vouching())) as door:
            wire = await door.hello()
            wire.send(line + b"\r\n" + self.BODY)
            assert (await wire.rest()).count(b"\r\n") == 1

    async def test_body_behind_a_data_that_is_refused_while_the_body_comes(self) -> None:
        asked, release = asyncio.Event(), asyncio.Event()

        class Slow:
            @hookimpl
            async def data(self) -> Decision:
                asked.set()
                await release.wait()
                return deny("not now")

        async with live(Policy(vouching(), Slow())) as door:
            wire = await door.hello()
            await wire.envelope()
            wire.send(b"DATA\r\n")
            await asked.wait()
            wire.send(self.BODY)
            await door.buffered(len(self.BODY))
            release.set()
            assert re.fullmatch(rb"554 5\.7\.1 not now \[\w+\]\r\n", await wire.rest())

    async def test_a_refused_data_without_a_body_leaves_the_session(self) -> None:
        async with live(Policy(vouching(), saying("data", deny("not now")))) as door:
            wire = await door.hello()
            await wire.envelope()
            assert (await wire.say(b"DATA")).startswith(b"554 5.7.1 not now")
            await wire.envelope()
