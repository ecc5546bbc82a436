"""A rehearsed session gives a policy the same message as a socket would."""

from __future__ import annotations

import pytest

from gatepost import Session, hookimpl, testing
from tests.policy import Keeps, Policy


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
async def test_dots_arrive_as_they_were_whatever_ends_the_lines(end: str) -> None:
    client = await Policy(keeps := Keeps()).connect()
    lines = ["Subject: dots", "", ".one", "..two", ".", "...", "end"]
    assert (await client.transaction(content=end.join(lines).encode())).code == 250
    assert keeps.content.endswith(b"\r\n\r\n.one\r\n..two\r\n.\r\n...\r\nend\r\n")


class WaitsAt:
    """Waits for silence in one phase."""

    def __init__(self, phase: str) -> None:
        self.phase = phase

    @hookimpl
    async def connect(self, session: Session) -> None:
        if self.phase == "connect":
            await session.silence(6)

    @hookimpl
    async def helo(self, session: Session) -> None:
        if self.phase == "helo":
            await session.silence(6)


@pytest.mark.parametrize("phase", ["connect", "helo"])
async def test_silence_after_connect_is_an_error_of_the_plugin_in_the_kit_as_in_the_server(phase: str) -> None:
    # A failure at helo is spoken at RCPT.
    client = await (policy := testing.Policy(WaitsAt(phase), failures="expected")).connect()
    assert (client.banner.code, (await client.ehlo("x")).code) == (220, 250)
    async with testing.Server(WaitsAt(phase), failures="expected") as live:
        wire = await live.connect()
        assert ((await wire.reply()).code, (await wire.say("EHLO x")).code) == (
            220,
            250,
        )
    for events in (policy.events, live.policy.events):
        failed = [str(facts["error"]) for facts in events.named("plugin_failed")]
        assert [error.startswith("session.silence() is for the connect phase") for error in failed] == (
            [True] if phase == "helo" else []
        )
