"""A trial plays one session over a real policy: it delivers nothing, takes no time, and keeps each step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gatepost.config import Config, parse_config
from gatepost.rehearsal import Flags, play

FLAGS = Flags(
    ip="192.0.2.1",
    helo="client.example.com",
    sender="a@example.com",
    recipients=("b@example.org",),
    content=None,
    early=False,
    listener="",
    deliver=False,
    store=False,
)
MINE = """
from gatepost import accept, deny, hookimpl


class Mine:
    grants = "delivery"

    def __init__(self, clock, log):
        self.clock, self.log = clock, log

    @hookimpl
    async def connect(self, session):
        await session.silence(6)

    @hookimpl
    async def helo(self, hostname):
        await self.clock.sleep(20)
        self.log.info("greeted")
        self.log.warning("slow", name=hostname)

    @hookimpl
    def rcpt(self, recipient):
        return deny("no such mailbox") if recipient.local == "nobody" else None

    @hookimpl
    def queue(self, message):
        with open("delivered", "wb") as file:
            file.write(b"".join(message.blocks()))
        return accept("kept")

    @hookimpl
    def queued(self):
        open("told", "w").close()
"""
TOML = """
hostname = "mx.example.org"
state_dir = "state"
[dns]
servers = ["127.0.0.1:9"]
[plugins]
order = ["recipients", "mine"]
[plugins.recipients]
domains = ["example.org"]
[plugins.mine]
use = "mine.py"
"""


def config_in(folder: Path) -> Config:
    """Return the policy of ``TOML``, whose plugin delivers into ``folder``."""
    text = MINE.replace('"delivered"', repr(str(folder / "delivered"))).replace('"told"', repr(str(folder / "told")))
    (folder / "mine.py").write_text(text)
    return parse_config(TOML, folder, "gatepost.toml")


async def test_the_message_is_accepted_by_those_who_would_deliver_and_delivered_by_nobody(tmp_path: Path) -> None:
    trial = await play(config_in(tmp_path), FLAGS)
    assert trial.accepted and trial.outcome == "would be handed to: mine"
    assert [(step.said, step.code) for step in trial.steps] == [
        ("connect from 192.0.2.1", 220),
        ("EHLO client.example.com", 250),
        ("MAIL FROM:<a@example.com>", 250),
        ("RCPT TO:<b@example.org>", 250),
        ("DATA", 354),
        ("message", 250),
    ]
    assert not (tmp_path / "delivered").exists() and not (tmp_path / "told").exists()


async def test_the_message_is_delivered_and_told_when_the_trial_is_to_deliver(tmp_path: Path) -> None:
    trial = await play(config_in(tmp_path), replace(FLAGS, deliver=True, content=b"Subject: x\n\nHello.\n"))
    assert trial.outcome.startswith("accepted: 250 2.0.0 queued as ") and trial.outcome.endswith(": kept")
    assert (tmp_path / "delivered").read_bytes().endswith(b"Subject: x\r\n\r\nHello.\r\n")
    assert (tmp_path / "told").exists()


async def test_each_step_says_how_long_the_client_would_have_waited(tmp_path: Path) -> None:
    trial = await play(config_in(tmp_path), FLAGS)
    assert [round(step.waited) for step in trial.steps] == [6, 20, 0, 0, 0, 0]
    assert trial.facts()["waited"] == 26.0


async def test_a_client_that_talks_early_is_not_waited_for(tmp_path: Path) -> None:
    trial = await play(config_in(tmp_path), replace(FLAGS, early=True))
    assert round(trial.steps[0].waited) == 0


async def test_a_recipient_that_is_refused_leaves_the_others(tmp_path: Path) -> None:
    trial = await play(config_in(tmp_path), replace(FLAGS, recipients=("nobody@example.org", "b@example.org")))
    (refused,) = trial.refusals
    assert (refused.said, refused.code, refused.plugin) == ("RCPT TO:<nobody@example.org>", 550, "mine")
    assert trial.steps[-1].said == "message" and not trial.accepted
    assert trial.outcome.startswith("refused by mine at RCPT TO:<nobody@example.org>: 550 5.7.1 no such mailbox")


async def test_the_core_is_named_where_it_refuses_itself(tmp_path: Path) -> None:
    trial = await play(config_in(tmp_path), replace(FLAGS, sender="not an address"))
    assert (trial.steps[-1].plugin, trial.steps[-1].code) == ("gatepost", 501)


async def test_warnings_of_plugins_are_kept_and_what_they_merely_mention_is_not(tmp_path: Path) -> None:
    trial = await play(config_in(tmp_path), FLAGS)
    assert trial.events == [{"event": "slow", "level": "warning", "name": "client.example.com", "plugin": "mine"}]
