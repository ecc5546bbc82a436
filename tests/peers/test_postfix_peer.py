"""The real Postfix of these tests takes mail, loses none when killed, and relays nothing.

Its listener is the one in the manual (``core/gatepost/cli/postfix-master.cf``), so these tests check that example too.
"""

from __future__ import annotations

import smtplib

import pytest

from tests.patience import PATIENCE, PROGRAM_PATIENCE
from tests.peers.postfix import DOMAIN, UNKNOWN, Postfix, smtp_source

INBOX = f"inbox@{DOMAIN}"
FOREIGN = (
    "a@elsewhere.example",
    "a%elsewhere.example@example.test",
    "elsewhere.example!a@example.test",
    '"a@elsewhere.example"@example.test',
    "@example.test:a@elsewhere.example",
)


def send(peer: Postfix, message_id: str) -> None:
    with smtplib.SMTP("127.0.0.1", peer.port, local_hostname="client.example.org", timeout=PATIENCE) as client:
        client.sendmail("a@example.org", [INBOX], f"Message-ID: {message_id}\r\n\r\nhello\r\n")


def test_every_message_of_smtp_source_has_its_own_message_id(postfix: Postfix) -> None:
    source = smtp_source(postfix.port, 60, 5)
    _, complaints = source.communicate(timeout=PROGRAM_PATIENCE)
    assert (source.returncode, complaints) == (0, "")

    postfix.deliver()
    assert len(postfix.messages()) == 60
    assert len(set(postfix.messages())) == 60


def test_smtp_source_fails_when_a_recipient_is_refused(postfix: Postfix) -> None:
    source = smtp_source(postfix.port, 1, recipient="a@elsewhere.example")
    _, complaints = source.communicate(timeout=PROGRAM_PATIENCE)

    assert source.returncode == 1
    assert "Relay access denied" in complaints


def test_mail_that_was_accepted_is_delivered_after_a_kill(postfix: Postfix) -> None:
    for number in range(10):
        send(postfix, f"<{number}@example.org>")
    postfix.kill()
    with pytest.raises(ConnectionRefusedError):
        send(postfix, "<late@example.org>")

    postfix.start()
    postfix.deliver()
    # Postfix delivers at least once: killed after a delivery but before it updated the queue, it delivers again.
    assert set(postfix.messages()) == {f"<{number}@example.org>" for number in range(10)}


def test_the_listener_of_the_manual_relays_nothing(postfix: Postfix) -> None:
    with smtplib.SMTP("127.0.0.1", postfix.port, local_hostname="client.example.org", timeout=PATIENCE) as client:
        client.ehlo()
        assert client.docmd("MAIL", "FROM:<a@example.org>")[0] == 250
        for recipient in FOREIGN:
            code, text = client.docmd("RCPT", f"TO:<{recipient}>")
            assert (code, text[:5], recipient) == (554, b"5.7.1", recipient)


def test_the_listener_of_the_manual_refuses_an_unknown_mailbox(postfix: Postfix) -> None:
    with smtplib.SMTP("127.0.0.1", postfix.port, local_hostname="client.example.org", timeout=PATIENCE) as client:
        client.ehlo()
        assert client.docmd("MAIL", "FROM:<a@example.org>")[0] == 250
        code, text = client.docmd("RCPT", f"TO:<{UNKNOWN}>")
        assert (code, text[:5]) == (550, b"5.1.1")
        assert client.docmd("RCPT", f"TO:<{INBOX}>")[0] == 250


def test_the_listener_of_the_manual_takes_xforward(postfix: Postfix) -> None:
    with smtplib.SMTP("127.0.0.1", postfix.port, local_hostname="gate.example.org", timeout=PATIENCE) as client:
        client.ehlo()
        assert client.has_extn("xforward")
        assert client.docmd("XFORWARD", "NAME=mail.example.org ADDR=192.0.2.25 PROTO=ESMTP")[0] == 250
        client.sendmail("a@example.org", [INBOX], "Message-ID: <x@example.org>\r\n\r\nhello\r\n")

    assert b"client=mail.example.org[192.0.2.25]" in postfix.log.read_bytes()


def test_headers_of_a_client_that_does_not_say_xforward_are_not_rewritten(postfix: Postfix) -> None:
    headers = "From: bob\r\nTo: undisclosed\r\nSubject: as it came\r\n"
    with smtplib.SMTP("127.0.0.1", postfix.port, local_hostname="client.example.org", timeout=PATIENCE) as client:
        client.sendmail("a@example.org", [INBOX], f"{headers}\r\nhello\r\n")
    postfix.deliver()
    (content,) = postfix.delivered()
    header = content.partition(b"\n\n")[0]
    assert b"\nFrom: bob\nTo: undisclosed\nSubject: as it came" in header
    assert b"Message-Id:" not in header and b"\nDate:" not in header


def test_many_refusals_of_one_client_neither_delay_nor_close_the_connection_of_all(postfix: Postfix) -> None:
    with smtplib.SMTP("127.0.0.1", postfix.port, local_hostname="client.example.org", timeout=PATIENCE) as client:
        client.ehlo()
        for _ in range(30):  # by default the 11th waits for a second, and the 20th is the last
            client.mail("a@example.org")
            assert client.rcpt(UNKNOWN)[0] == 550
            assert client.rset()[0] == 250
        for _ in range(120):  # the 101st is one command too many by default
            assert client.noop()[0] == 250
        client.mail("a@example.org")
        assert client.rcpt(INBOX)[0] == 250
