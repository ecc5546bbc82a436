"""``gatepost try`` plays one session through the policy, shows who said what, and delivers nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.core.cli.running import LISTEN, SOUND, Folder, facts, run

HEAD = f'hostname = "mx.example.org"\nstate_dir = "state"\n{LISTEN}[dns]\nservers = ["127.0.0.1:9"]\n'
TO_US = ("--to", "b@example.org")


def policy(*order: str, **tables: str) -> str:
    """A configuration of that order, with recipients for example.org; ``mine`` is a file."""
    written = {"recipients": 'domains = ["example.org"]', "mine": 'use = "mine.py"', **tables}
    tables_text = "".join(f"[plugins.{name}]\n{written[name]}\n" for name in order if name in written)
    return f"{HEAD}[plugins]\norder = {json.dumps(order)}\n{tables_text}"


def plugin(hooks: str) -> str:
    """A plugin with these hooks."""
    indented = "\n".join(f"    {line}" for line in hooks.splitlines())
    return (
        f"import asyncio\nfrom gatepost import *\nclass Mine:\n{indented}\n"
        "    def __init__(self, clock, log, store):\n        self.clock, self.log, self.store = clock, log, store\n"
    )


def said(trial: dict[str, Any], phase: str, name: str) -> str:
    """Return the answer of a plugin at a phase."""
    (answer,) = [
        each["answer"]
        for step in trial["steps"]
        for ruling in step["rulings"]
        if ruling["phase"] == phase
        for each in ruling["said"]
        if each["plugin"] == name
    ]
    assert isinstance(answer, str)
    return answer


def test_a_message_that_would_be_taken_is_status_0_and_goes_nowhere(folder: Folder) -> None:
    path = folder.write(policy("recipients", "maildir", maildir=f'path = "{folder.path}/mail/{{local}}"'))
    result = run("try", *TO_US, "--config", path)
    assert result.exit_code == 0
    assert result.stdout.endswith("would be handed to: maildir\n")
    assert not (folder.path / "mail").exists()


def test_with_deliver_it_is_delivered(folder: Folder) -> None:
    path = folder.write(policy("recipients", "maildir", maildir=f'path = "{folder.path}/mail/{{local}}"'))
    result = run("try", *TO_US, "--deliver", "--config", path)
    assert result.exit_code == 0
    assert "\naccepted: 250 2.0.0 queued as " in result.stdout
    (delivered,) = (folder.path / "mail/b/new").iterdir()
    assert b"Subject: a trial" in delivered.read_bytes()


def test_a_refusal_is_status_1_and_names_who_and_where(folder: Folder) -> None:
    result = run("try", "--to", "b@example.net", "--config", folder.write())
    assert result.exit_code == 1
    assert "refused by recipients at RCPT TO:<b@example.net>: 550 5.7.1 relaying denied" in result.stdout


def test_every_phase_and_plugin_is_shown_with_its_answer_and_the_outcome(folder: Folder) -> None:
    trial = facts("try", *TO_US, "--config", folder.write(policy("earlytalker", "recipients", "discard")))
    assert [step["said"].split(":")[0] for step in trial["steps"]] == [
        "connect from 192.0.2.1",
        "EHLO client.example.com",
        "MAIL FROM",
        "RCPT TO",
        "DATA",
        "message",
    ]
    assert said(trial, "connect", "earlytalker") == "no opinion"
    assert said(trial, "rcpt", "recipients") == "accept"
    assert trial["accepted"] and trial["would_deliver"] == ["discard"]


def test_waiting_takes_no_time_and_is_shown(folder: Folder) -> None:
    began = time.monotonic()
    path = folder.write(policy("earlytalker", "recipients", "discard", earlytalker='delay = "4m"'))
    trial = facts("try", *TO_US, "--config", path)
    assert trial["waited"] == 240.0 and trial["accepted"]
    assert "240 s skipped" in run("try", *TO_US, "--config", path).stdout
    assert time.monotonic() - began < 60


def test_an_early_talker_is_refused_by_earlytalker(folder: Folder) -> None:
    path = folder.write(policy("earlytalker", "recipients", "discard"))
    result = run("try", *TO_US, "--early", "--config", path)
    assert result.exit_code == 1
    assert "refused by earlytalker at connect from 192.0.2.1: 554 5.5.1" in result.stdout


def test_one_refused_recipient_of_two_is_status_1_and_the_other_is_tried_on(folder: Folder) -> None:
    trial = facts("try", "--to", "b@example.net", *TO_US, "--config", folder.write())
    assert not trial["accepted"]
    assert trial["steps"][-1]["reply"].startswith("250") and trial["would_deliver"] == ["discard"]


def test_a_delayed_refusal_is_shown_where_it_is_ruled_and_where_it_is_spoken(folder: Folder) -> None:
    text = policy("access", "recipients", "discard", access='deny = [{ sender = "example.com", reason = "not you" }]')
    result = run("try", *TO_US, "--config", folder.write(text))
    assert "delayed until rcpt" in result.stdout
    assert "refused by access at RCPT TO:<b@example.org>: 550 5.7.1 not you" in result.stdout


def test_the_flags_are_what_the_plugins_see(folder: Folder, tmp_path: Path) -> None:
    hooks = (
        "@hookimpl\ndef message(self, session, envelope, message):\n"
        "    with message.open() as content:\n        octets = content.read()\n"
        "    return deny(f'{session.client} {session.helo} {session.listener} <{envelope.sender}> {octets}')"
    )
    text = policy("recipients", "mine", "discard").replace("[dns]", '[listen.b]\nbind = ["127.0.0.1:2526"]\n[dns]')
    path = folder.write(text, mine=plugin(hooks))
    flags = ("--ip", "::ffff:192.0.2.9", "--helo", "h.example", "--from", "", "--listener", "b", "--message", "-")
    result = run("try", *TO_US, *flags, "--config", path, input="Subject: x\n\n.hello\n")
    assert r"192.0.2.9 h.example b <> b'Subject: x\\r\\n\\r\\n.hello\\r\\n'" in result.stdout


def test_an_international_address_is_sent_as_one(folder: Folder) -> None:
    trial = facts("try", *TO_US, "--from", "ä@example.com", "--config", folder.write())
    assert trial["accepted"]
    assert trial["steps"][2]["said"] == "MAIL FROM:<ä@example.com> SMTPUTF8"


def test_text_of_a_client_is_escaped_in_the_output(folder: Folder) -> None:
    result = run("try", *TO_US, "--helo", "x\x1b[2Jy", "--config", folder.write())
    assert "\x1b" not in result.stdout and r"EHLO x\x1b[2Jy" in result.stdout


def test_plugins_remember_nothing_unless_the_store_is_wanted(folder: Folder) -> None:
    path = folder.write(policy("recipients", "greylist", "discard", greylist='delay = "1s"\nby_name = false'))
    (folder.path / "state").mkdir()
    assert not facts("try", *TO_US, "--config", path)["accepted"]
    assert list((folder.path / "state").iterdir()) == []
    assert not facts("try", *TO_US, "--store", "--config", path)["accepted"]
    assert (folder.path / "state/state.db").exists()


def test_nothing_is_queued_unless_it_is_delivered(folder: Folder) -> None:
    hooks = "@hookimpl\ndef queued(self):\n    self.log.warning('told')\n"
    path = folder.write(policy("recipients", "discard", "mine"), mine=plugin(hooks))
    assert [
        event["event"] for event in facts("try", *TO_US, "--config", path)["events"] if event["plugin"] == "mine"
    ] == []
    delivered = facts("try", *TO_US, "--deliver", "--config", path)
    assert [event["event"] for event in delivered["events"] if event["plugin"] == "mine"] == ["told"]


def test_a_plugin_that_fails_is_shown_with_its_error(folder: Folder) -> None:
    hooks = "@hookimpl\ndef mail(self):\n    raise KeyError('lost')\n"
    result = run("try", *TO_US, "--config", folder.write(policy("mine", "recipients", "discard"), mine=plugin(hooks)))
    assert result.exit_code == 1
    assert "KeyError: 'lost'" in result.stdout and "refused by mine" in result.stdout


def test_work_in_threads_and_on_the_loop_gets_the_time_it_needs(folder: Folder) -> None:
    hooks = (
        "@hookimpl(blocking=True)\ndef mail(self):\n    import time\n    time.sleep(0.05)\n    return None\n"
        "@hookimpl(ahead=True)\nasync def rcpt(self):\n    await asyncio.sleep(0.05)\n    return None\n"
        "@hookimpl\nasync def data(self):\n    await self.clock.sleep(20)\n    return None\n"
    )
    trial = facts("try", *TO_US, "--config", folder.write(policy("mine", "recipients", "discard"), mine=plugin(hooks)))
    assert trial["accepted"], trial["outcome"]
    assert trial["waited"] == 20.0


def test_repeated_jobs_are_not_started(folder: Folder) -> None:
    hooks = (
        "@hookimpl\nasync def startup(self, server):\n"
        "    async def job():\n        self.log.warning('job')\n    server.every(1, job)\n"
        "@hookimpl\nasync def connect(self):\n    await self.clock.sleep(20)\n"
    )
    trial = facts("try", *TO_US, "--config", folder.write(policy("mine", "recipients", "discard"), mine=plugin(hooks)))
    assert trial["accepted"] and all(event["plugin"] == "discard" for event in trial["events"])


def test_a_startup_that_fails_is_a_sentence(folder: Folder) -> None:
    hooks = "@hookimpl\ndef startup(self):\n    raise OSError('no file')\n"
    result = run("try", "--config", folder.write(policy("mine", "recipients", "discard"), mine=plugin(hooks)))
    assert result.exit_code == 1
    assert result.stderr == "Error: mine: its startup failed: OSError: no file (mine.py:6)\n"


def test_without_a_plugin_that_delivers_the_message_gets_451(folder: Folder) -> None:
    result = run("try", *TO_US, "--config", folder.write(policy("recipients")))
    assert result.exit_code == 1
    assert "refused by gatepost at message: 451" in result.stdout


def test_a_listener_that_is_not_there_is_status_2(folder: Folder) -> None:
    result = run("try", "--listener", "nonesuch", "--config", folder.write())
    assert result.exit_code == 2
    assert "there is no [listen.nonesuch]" in result.stderr


@pytest.mark.parametrize("message", ["From: a\n\nx\n", "From: a\r\n\r\nx\r\n", "no end of line"])
def test_a_message_from_a_file_has_the_line_ends_of_mail(folder: Folder, message: str) -> None:
    (folder.path / "message.eml").write_bytes(message.encode())
    path = folder.write(SOUND.replace("hostname", 'line_ends = "reject"\nhostname', 1))
    assert run("try", *TO_US, "--message", "message.eml", "--config", path).exit_code == 0
