"""Dialogue files: what they may say, and what a test shows when the gate says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatepost.testing import Dialogue, DialogueSyntaxError, DifferenceError

PATH = Path("some.smtp")
HELLO = "S: 220…\nC: EHLO x\nS: 250…\n"


async def difference(text: str, driver: str = "conversation") -> str:
    with pytest.raises(DifferenceError) as raised:
        await Dialogue.parse(text, PATH).play(driver)  # type: ignore[arg-type]
    return str(raised.value)


@pytest.mark.parametrize("driver", ["conversation", "door"])
class TestDifferences:
    async def test_both_sides_are_shown_with_what_went_before(self, driver: str) -> None:
        assert await difference(f"# why\n{HELLO}C: NOOP\nS: 250 2.0.0 fine\n", driver) == (
            "some.smtp:6: this was not said\n"
            "  S: 220…\n  C: EHLO x\n  S: 250…\n  C: NOOP\n"
            "- S: 250 2.0.0 fine\n"
            "+ S: 250 2.0.0 OK"
        )

    async def test_the_whole_reply_is_shown(self, driver: str) -> None:
        shown = await difference("S: 220…\nC: EHLO x\nS: 250-mx.example.org\nS: 250 PIPELINING\n", driver)
        assert shown.splitlines()[4:6] == ["- S: 250 PIPELINING", "+ S: 250-PIPELINING"]
        assert shown.endswith("+ S: 250 ENHANCEDSTATUSCODES")

    async def test_a_reply_must_be_heard_out(self, driver: str) -> None:
        shown = await difference("S: 220…\nC: EHLO x\nS: 250-mx.example.org\nC: NOOP\nS: 250…\n", driver)
        assert "- C: NOOP\n+ S: 250-PIPELINING" in shown
        assert "- S: 250-mx" in await difference("S: 220…\nC: EHLO x\nS: 250-mx.example.org\n", driver)

    async def test_an_end_that_does_not_come(self, driver: str) -> None:
        assert "- closed\n+ " in await difference(f"{HELLO}closed\n", driver)

    async def test_a_reply_that_does_not_come(self, driver: str) -> None:
        shown = await difference(f"{HELLO}C: QUIT\nS: 221…\nS: 250 more\n", driver)
        assert shown.endswith("- S: 250 more\n+ (the connection is closed)")

    async def test_a_reply_that_nobody_waits_for(self, driver: str) -> None:
        assert (await difference(f"{HELLO}C: NOOP\n", driver)).endswith("- closed\n+ S: 250 2.0.0 OK")


async def test_without_sockets_nobody_waits_in_vain() -> None:
    assert (await difference(f"{HELLO}S: 250…\n")).endswith("+ (nothing: the server waits for the client)")


async def test_an_identifier_is_left_out() -> None:
    text = '---\n[plugins]\norder = ["recipients"]\n[plugins.recipients]\ndomains = ["ours.example"]\n---\n'
    text += f"{HELLO}C: MAIL FROM:<>\nC: RCPT TO:<a@theirs.example>\nS: 250…\nS: 550 5.7.1 wrong"
    assert "+ S: 550 5.7.1 " in await difference(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the dialogue is empty"),
        (f"{HELLO}D: x\n", "some.smtp:4: 'D: x' is neither"),
        ("wait long\n", "'long' is not a duration"),
        ("---\n[plugins]\nS: 220…\n", "the policy has no end"),
        ("raw: \\x1\n", "some.smtp:1: these octets cannot be read"),
        ("raw: ä\n", "these octets cannot be read"),
        ("closed now\n", "is neither"),
    ],
)
def test_a_file_that_is_wrong(text: str, why: str) -> None:
    with pytest.raises(DialogueSyntaxError, match=why):
        Dialogue.parse(text, PATH)


def test_who_can_play_it() -> None:
    assert Dialogue.parse(HELLO, PATH).drivers == ("conversation", "door")
    assert Dialogue.parse(f"client: 127.0.0.9\n{HELLO}", PATH).drivers == ("conversation", "door")
    assert Dialogue.parse(f"client: 2001:db8::1\n{HELLO}", PATH).drivers == ("conversation",)
    assert Dialogue.parse(f"{HELLO}raw: NOOP\\n", PATH).drivers == ("door",)


async def test_quotes_in_raw_octets() -> None:
    text = 'S: 220…\nraw: NOOP it\'s "that"\\r\\n\nS: 250…\n'
    await Dialogue.parse(text, PATH).play("door")
