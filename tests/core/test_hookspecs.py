"""A type checker finds in a plugin what could only go wrong with a client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
