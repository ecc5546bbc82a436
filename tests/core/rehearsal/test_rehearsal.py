"""A rehearsed session gives a policy the same message as a socket would."""

from __future__ import annotations

import pytest

from tests.policy import Keeps, Policy


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
async def test_dots_arrive_as_they_were_whatever_ends_the_lines(end: str) -> None:
    client = await Policy(keeps := Keeps()).connect()
    lines = ["Subject: dots", "", ".one", "..two", ".", "...", "end"]
    assert (await client.transaction(content=end.join(lines).encode())).code == 250
    assert keeps.content.endswith(b"\r\n\r\n.one\r\n..two\r\n.\r\n...\r\nend\r\n")
