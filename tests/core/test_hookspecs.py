"""The phases change only with their version, and a type checker finds in a plugin what could go wrong with a client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gatepost.gate import arguments_of
from gatepost.hookspecs import HOOKS_VERSION, PHASES

VERSION = 1
ARGUMENTS = {
    "startup": "server",
    "connect": "session",
    "greeting": "session",
    "helo": "session hostname",
    "capabilities": "session keywords",
    "starttls": "session",
    "auth": "session mechanism credentials",
    "mail": "session envelope sender parameters",
    "rcpt": "session envelope recipient parameters",
    "data": "session envelope",
    "headers": "session envelope message",
    "message": "session envelope message",
    "queue": "session envelope message",
    "queued": "session envelope message receipt",
    "vrfy": "session argument",
    "help": "session argument",
    "noop": "session argument",
    "unknown_command": "session argument",
    "reset": "session envelope",
    "quit": "session",
    "disconnect": "session",
    "ruled": "session ruling",
    "shutdown": "server",
}
"""The arguments of each phase in ``VERSION``."""

RIGHT = """
from gatepost import QueueAnswer, Decision, Envelope, Message, Session, hookimpl


class Right:
    @hookimpl
    def mail(self) -> Decision | None: ...
    @hookimpl
    async def helo(self, session: Session) -> Decision | None: ...
    @hookimpl(ahead=True)
    async def rcpt(self) -> Decision | None: ...
    @hookimpl(blocking=True)
    def queue(self, envelope: Envelope, message: Message) -> QueueAnswer: ...
    @hookimpl
    async def greeting(self) -> str | None: ...
    @hookimpl
    def quit(self) -> None: ...
    @hookimpl(specname="reset")
    async def forget(self) -> None: ...
"""
# Each line that mypy must refuse says so: one that it took would be an unused ignore, which is an error too.
WRONG = """
class Wrong:
    @hookimpl  # type: ignore[type-var]
    def mail(self) -> bool: ...
    @hookimpl  # type: ignore[type-var]
    async def helo(self) -> int: ...
    @hookimpl(ahead=True)  # type: ignore[type-var]
    def rcpt(self) -> Decision | None: ...
    @hookimpl(blocking=True)  # type: ignore[type-var]
    async def data(self) -> Decision | None: ...
    @hookimpl(blocking=True)  # type: ignore[type-var]
    def message(self) -> list[str]: ...
"""


def test_the_marker_takes_what_a_hook_may_be_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(RIGHT + WRONG)
    options = ["--strict", "--disable-error-code=empty-body", "--cache-dir=cache", "--no-error-summary"]
    mypy = [sys.executable, "-m", "mypy", *options, "plugin.py"]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_phases_and_their_arguments_change_only_together_with_the_version() -> None:
    arguments = {phase: " ".join(arguments_of(phase)) for phase in PHASES}
    assert (HOOKS_VERSION, arguments) == (VERSION, ARGUMENTS), (
        "raise HOOKS_VERSION, and write down here what has changed"
    )
