"""A connection to a next hop comes up: greeting, EHLO, TLS; and what aiosmtplib must go on giving us."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import aiosmtplib
import pytest
import uvloop

from gatepost.errors import NextHopError, NextHopRefusedError, NextHopUnreachableError
from gatepost.services.clock import SystemClock
from gatepost.services.next_hop import NextHop, Target, Tls
from gatepost.services.next_hop.connection import MAX_REPLY, SmtpConnection
from tests.peers.mail_server import DROP, HANG, MailServer


def next_hop_to(
    server: MailServer, tls: Tls = "off", connect_timeout: float = 5, command_timeout: float = 5
) -> NextHop:
    return NextHop(
        [Target.parse(server.url)],
        clock=SystemClock(),
        local_hostname="gate.example",
        tls=tls,
        connect_timeout=connect_timeout,
        command_timeout=command_timeout,
    )


async def deliver(server: MailServer, tls: Tls, content: bytes = b"x\r\n") -> None:
    next_hop = next_hop_to(server, tls)
    delivery = await next_hop.begin()
    await delivery.mail("a@x.example")
    await delivery.rcpt("b@y.example")
    answers = await delivery.data([content])
    assert answers["b@y.example"].is_positive
    await delivery.release()
    await next_hop.close()


async def failure(server: MailServer, tls: Tls = "off", timeout: float = 5) -> NextHopError:
    with pytest.raises(NextHopError) as raised:
        await next_hop_to(server, tls, connect_timeout=timeout, command_timeout=timeout).begin()
    await server.until(lambda: all(connection.is_over for connection in server.connections))
    return raised.value


class TestComingUp:
    @pytest.mark.parametrize("lmtp", [False, True])
    @pytest.mark.parametrize("occasion", ["GREETING", "HELLO"])
    async def test_a_refusal_is_about_us(self, occasion: str, lmtp: bool) -> None:
        occasion = {"GREETING": "GREETING", "HELLO": "LHLO" if lmtp else "EHLO"}[occasion]
        for reply in ("554 5.7.1 not you", "450 4.7.1 not now"):
            async with MailServer(lmtp=lmtp, answers={occasion: reply, "HELO": reply}) as server:
                error = await failure(server)
                assert isinstance(error, NextHopRefusedError)
                assert str(error) == f"{server.url}: {reply}"

    @pytest.mark.parametrize("reply", ["500 5.5.1 what", "502 not here", "550 5.5.2 no", "554 5.5.4 no"])
    async def test_helo_is_tried_where_ehlo_is_refused_for_good(self, reply: str) -> None:
        async with MailServer(answers={"EHLO": reply, "HELO": "250 peer.example"}) as server:
            await deliver(server, "opportunistic")
            assert server.connections[0].commands[:3] == [
                "EHLO gate.example",
                "HELO gate.example",
                "MAIL FROM:<a@x.example>",
            ]
            assert len(server.messages) == 1

    async def test_required_tls_is_not_given_up_for_helo(self) -> None:
        async with MailServer(answers={"EHLO": "502 5.5.1 what", "HELO": "250 peer.example"}) as server:
            assert "does not offer STARTTLS" in str(await failure(server, "required"))

    async def test_the_refusal_of_ehlo_is_named_where_the_next_hop_leaves_after_it(self) -> None:
        async with MailServer(answers={"EHLO": "554 5.7.1 not you", "HELO": DROP}) as server:
            assert str(await failure(server)) == f"{server.url}: 554 5.7.1 not you"

    async def test_no_helo_is_tried_where_ehlo_is_refused_for_now(self) -> None:
        async with MailServer(answers={"EHLO": "450 4.7.1 not now"}) as server:
            await failure(server)
            assert server.connections[0].verbs() == ["EHLO"]

    @pytest.mark.parametrize("occasion", ["GREETING", "EHLO"])
    async def test_421_is_as_good_as_nobody(self, occasion: str) -> None:
        async with MailServer(answers={occasion: "421 4.3.2 too busy"}) as server:
            error = await failure(server)
            assert isinstance(error, NextHopUnreachableError)
            assert str(error) == f"{server.url}: 421 4.3.2 too busy"

    @pytest.mark.parametrize("occasion", ["GREETING", "EHLO"])
    @pytest.mark.parametrize("reply", [DROP, HANG, "SSH-2.0-OpenSSH_9.2"])
    async def test_no_answer_is_unreachable(self, occasion: str, reply: str) -> None:
        async with MailServer(answers={occasion: reply}) as server:
            assert isinstance(await failure(server, timeout=0.2), NextHopUnreachableError)

    async def test_a_name_that_does_not_exist_is_unreachable(self) -> None:
        next_hop = NextHop([Target.parse("smtp://nowhere.invalid")], clock=SystemClock(), local_hostname="gate.example")
        with pytest.raises(NextHopUnreachableError, match=r"smtp://nowhere\.invalid:25: "):
            await next_hop.begin()

    async def test_a_cancelled_connection_is_closed(self) -> None:
        async with MailServer(answers={"EHLO": HANG}) as server:
            beginning = asyncio.create_task(next_hop_to(server).begin())
            await server.until(lambda: bool(server.connections and server.connections[0].commands))
            beginning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await beginning
            await server.drop_clients()
            assert server.connections[0].is_over

    async def test_a_reply_that_never_ends_does_not_fill_the_memory(self) -> None:
        async with MailServer(answers={"MAIL": "250-" + "x" * MAX_REPLY}) as server:
            delivery = await next_hop_to(server).begin()
            with pytest.raises(NextHopUnreachableError):
                await delivery.mail("a@x.example")
            await server.until(lambda: server.connections[0].is_over)


class TestOutOfTurn:
    """An answer that nobody asked for would be taken for the answer to the next command."""

    @pytest.mark.parametrize("unasked", ["250 2.0.0 to nobody", "421 4.4.2 idle for too long", "nonsense"])
    async def test_what_nobody_asked_for_answers_nothing(self, unasked: str) -> None:
        async with MailServer() as server:
            dialogue = await SmtpConnection.open(
                Target.parse(server.url),
                local_hostname="gate.example",
                tls_context=None,
                tls_required=False,
                connect_timeout=5,
                command_timeout=5,
            )
            await server.say_unasked(unasked)
            async with asyncio.timeout(5):
                while not dialogue.has_spoken:  # noqa: ASYNC110 -- only the transport knows when
                    await asyncio.sleep(0)
            with pytest.raises(NextHopUnreachableError, match=unasked):
                await dialogue.command("MAIL FROM:<a@x.example>")
            assert not dialogue.is_open
            assert server.connections[0].verbs() == ["EHLO"]


@pytest.fixture
def certificate(tmp_path: Path, require_program: Callable[[str, str], str]) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that vouches for itself."""
    openssl = require_program("openssl", "openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=peer.example", "-addext", "subjectAltName=IP:127.0.0.1",
         "-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.write_text(key.read_text() + certificate.read_text())
    return certificate


@pytest.fixture
def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


class TestTls:
    @pytest.mark.parametrize("lmtp", [False, True])
    async def test_opportunistic_encrypts_and_believes_any_certificate(
        self, server_context: ssl.SSLContext, lmtp: bool
    ) -> None:
        hello = "LHLO" if lmtp else "EHLO"
        content = (b"y" * 998 + b"\r\n") * 4096
        async with MailServer(lmtp=lmtp, tls=server_context) as server:
            await deliver(server, "opportunistic", content)
            (connection,) = server.connections
            assert connection.is_encrypted
            assert connection.verbs() == [hello, "STARTTLS", hello, "MAIL", "RCPT", "DATA", "QUIT"]
            assert server.messages[0].content == content

    async def test_opportunistic_goes_without_when_it_is_not_offered(self) -> None:
        async with MailServer() as server:
            await deliver(server, "opportunistic")
            assert not server.connections[0].is_encrypted

    async def test_off_does_not_use_what_is_offered(self, server_context: ssl.SSLContext) -> None:
        async with MailServer(tls=server_context) as server:
            await deliver(server, "off")
            assert not server.connections[0].is_encrypted

    async def test_required_refuses_a_next_hop_without_it(self) -> None:
        async with MailServer() as server:
            error = await failure(server, "required")
            assert isinstance(error, NextHopRefusedError) and "does not offer STARTTLS" in str(error)

    async def test_required_refuses_a_certificate_that_nobody_vouches_for(self, server_context: ssl.SSLContext) -> None:
        async with MailServer(tls=server_context) as server:
            error = await failure(server, "required")
            assert isinstance(error, NextHopRefusedError) and "CERTIFICATE_VERIFY_FAILED" in str(error)

    async def test_required_believes_a_known_certificate(
        self, server_context: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with MailServer(tls=server_context) as server:
            await deliver(server, "required")
            assert server.connections[0].is_encrypted

    async def test_required_refuses_a_certificate_for_another_name(
        self, server_context: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # it is for 127.0.0.1, and for no name
        async with MailServer(tls=server_context) as server:
            target = Target("smtp", "localhost", server.port)
            next_hop = NextHop([target], clock=SystemClock(), local_hostname="gate.example", tls="required")
            with pytest.raises(NextHopRefusedError, match=r"CERTIFICATE_VERIFY_FAILED.*[Hh]ostname mismatch"):
                await next_hop.begin()
            assert not server.connections[0].is_encrypted or server.connections[0].verbs()[-1] == "STARTTLS"

    @pytest.mark.parametrize("tls", ["opportunistic", "required"])
    async def test_tls_below_1_2_is_not_spoken(
        self, server_context: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch, tls: Tls
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        server_context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            server_context.minimum_version = ssl.TLSVersion.TLSv1
            server_context.maximum_version = ssl.TLSVersion.TLSv1_1
        async with MailServer(tls=server_context) as server:
            await failure(server, tls)
            assert server.connections[0].verbs()[-1] == "STARTTLS"
            # Where OpenSSL's own configuration is stricter, the handshake alone would not tell.
            context = next_hop_to(server, tls)._tls_context
            assert context is not None and context.minimum_version == ssl.TLSVersion.TLSv1_2

    @pytest.mark.parametrize("reply", ["454 4.7.0 no key", "502 5.5.1 not now"])
    @pytest.mark.parametrize("tls", ["opportunistic", "required"])
    async def test_a_refused_starttls_is_about_us(self, server_context: ssl.SSLContext, tls: Tls, reply: str) -> None:
        async with MailServer(tls=server_context, answers={"STARTTLS": reply}) as server:
            error = await failure(server, tls)
            assert isinstance(error, NextHopRefusedError) and reply in str(error)

    def test_it_all_works_on_uvloop_too(self, server_context: ssl.SSLContext) -> None:
        async def converse() -> None:
            async with MailServer(tls=server_context) as encrypted, MailServer(lmtp=True) as plain:
                for server in (encrypted, plain):
                    content = (b"." * 998 + b"\r\n") * 4096
                    await deliver(server, "opportunistic", content)
                    assert server.messages[0].content == content
                assert encrypted.connections[0].is_encrypted

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(converse())


class TestAiosmtplib:
    """The undocumented attributes of aiosmtplib that ``_take_over`` uses. Fails when a new release changes them."""

    async def test_the_transport_can_be_taken_over(self) -> None:
        async with MailServer() as server:
            client = aiosmtplib.SMTP(hostname="127.0.0.1", port=server.port, start_tls=False)
            await client.connect()
            await client.ehlo()
            transport = client.transport
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_protocol() is client.protocol
            transport.set_protocol(asyncio.Protocol())
            transport.abort()
            await server.until(lambda: server.connections[0].is_over)

    async def test_a_reply_to_lhlo_can_be_given_to_it(self) -> None:
        client = aiosmtplib.SMTP()
        client.last_ehlo_response = aiosmtplib.SMTPResponse(250, "peer\nSIZE 1000\nSTARTTLS")
        assert client.esmtp_extensions == {"size": "1000", "starttls": ""}
        assert client.supports_extension("starttls")
