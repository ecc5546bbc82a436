"""A real Postfix behind gatepost sees the fields of a message as fields, however its header block begins or ends."""

from __future__ import annotations

from email.parser import BytesParser

import pytest

from tests.end_to_end.client import send
from tests.end_to_end.conftest import StartGate
from tests.peers.postfix import DOMAIN, Postfix

INBOX = f"inbox@{DOMAIN}"
POLICY = """
[plugins]
order = ["recipients", "forward"]
[plugins.recipients]
domains = ["{domain}"]
[plugins.forward]
to = "smtp://127.0.0.1:{port}"
"""


@pytest.mark.parametrize(
    ("content", "subject", "body"),
    [
        (
            b"From a@example.com Tue Dec  1 10:00:00 2026\r\nFrom: a@example.com\r\nSubject: s\r\n\r\nbody\r\n",
            "s",
            "body\n",
        ),
        (b"From: a@example.com\r\r\nSubject: two\r\r\n lines\r\r\n\r\r\nbody\r\r\n", "two\n lines", "body\n"),
        (b"From: a@example.com\r\nSubject: s\r\nThis is text already.\r\n", "s", "This is text already.\n"),
        (b"Call 12:30: ask for Bob.\r\nTo: text\r\n", None, "Call 12:30: ask for Bob.\nTo: text\n"),
    ],
    ids=["an mbox line first", "CR CR LF", "no empty line", "text only"],
)
async def test_fields_stay_fields_and_text_is_body(
    start_gate: StartGate, postfix: Postfix, content: bytes, subject: str | None, body: str
) -> None:
    gate = start_gate(POLICY.format(domain=DOMAIN, port=postfix.port))
    assert (await send(gate.port, INBOX, content)).startswith(b"250 2.0.0")
    postfix.deliver()
    (delivered,) = postfix.delivered()
    message = BytesParser().parsebytes(delivered)
    assert message["Subject"] == subject
    assert message["From"] == (None if subject is None else "a@example.com")
    assert message.get_payload() == body
    assert b"\nFrom a@example.com" not in delivered
