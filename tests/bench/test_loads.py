"""A load gives figures only if everything succeeded, and otherwise reports the failure."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.bench import loads
from tests.bench.loads import LoadError
from tests.peers.ports import reserved_port

REPLIES = {b"EHLO": b"250-here\r\n250 PIPELINING", b"MAIL": b"250 ok", b"RCPT": b"250 ok", b"DATA": b"354 go on"}


class Sink(socketserver.ThreadingTCPServer):
    """A server that takes messages. ``replies`` may be changed; an empty reply ends the connection."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Dialogue)
        self.replies = {**REPLIES, b"QUIT": b"221 bye", b".": b"250 taken", b"": b"220 here"}
        self.heard: list[bytes] = []
        self.sources: set[str] = set()

    def count(self, verb: bytes) -> int:
        return sum(line.startswith(verb) for line in self.heard)


class Dialogue(socketserver.StreamRequestHandler):
    server: Sink

    def handle(self) -> None:
        self.server.sources.add(self.client_address[0])
        line = b""
        while reply := self.server.replies[line[:4]]:
            self.wfile.write(reply + b"\r\n")
            line = self._end_of_message() if reply.startswith(b"354") else self.rfile.readline().rstrip(b"\r\n")
            if not line:
                return
            self.server.heard.append(line)

    def _end_of_message(self) -> bytes:
        return b"." if b".\r\n" in self.rfile else b""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as made:
        serving = threading.Thread(target=made.serve_forever, args=(0.01,))
        serving.start()
        yield made
        made.shutdown()
        serving.join()


def send(sink: Sink, load: str = "messages", *options: object) -> dict[str, float]:
    port = sink.server_address[1]
    return loads.run(load, "--port", port, "--count", 30, "--clients", 20, "--sessions", 3, *options)


def test_each_message_has_a_connection_and_clients_take_turns(sink: Sink) -> None:
    send(sink)
    assert sink.count(b"EHLO") == sink.count(b".") == sink.count(b"QUIT") == 30
    assert len(sink.sources) == len({line for line in sink.heard if line.startswith(b"MAIL")}) == 20


@pytest.mark.parametrize("pipelined", [(), ("--pipelined",)])
def test_connections_are_reused(sink: Sink, pipelined: tuple[str, ...]) -> None:
    send(sink, "messages", "--each", 4, *pipelined)
    assert sink.count(b".") == 30
    assert sink.count(b"QUIT") == 8


def test_at_a_rate_all_messages_are_sent_and_timed(sink: Sink) -> None:
    printed = send(sink, "messages", "--rate", 500)
    assert sink.count(b".") == 30
    assert 0 < printed["p50"] <= printed["p99"]


@pytest.mark.parametrize(("load", "verb"), [("messages", b"."), ("quits", b"QUIT")])
def test_a_spinning_load_sends_the_same(sink: Sink, load: str, verb: bytes) -> None:
    send(sink, load, "--spinning")
    assert sink.count(verb) == 30


def test_clients_leave_after_the_greeting(sink: Sink) -> None:
    send(sink, "quits")
    assert sink.heard == [b"QUIT"] * 30


@pytest.mark.parametrize("load", ["messages", "quits"])
@pytest.mark.parametrize(
    ("verb", "reply", "said"),
    [(b"", b"421 busy", "expected 220, got b'421 busy'"), (b"QUIT", b"", "closed the connection")],
)
def test_a_failure_gives_no_figure(sink: Sink, load: str, verb: bytes, reply: bytes, said: str) -> None:
    sink.replies[verb] = reply
    with pytest.raises(LoadError, match=said):
        send(sink, load)


@pytest.mark.parametrize("verb", [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"."])
def test_a_refusal_of_any_command_gives_no_figure(sink: Sink, verb: bytes) -> None:
    sink.replies[verb] = b"451 later"
    with pytest.raises(LoadError, match="451 later"):
        send(sink)


def test_an_introducing_client_fails_when_its_recipient_is_refused(sink: Sink) -> None:
    sink.replies[b"RCPT"] = b"550 never"
    with pytest.raises(LoadError, match="550 never"):
        send(sink, "messages", "--introducing")


def test_a_server_that_is_not_there_is_reported() -> None:
    with reserved_port() as port, pytest.raises(LoadError, match="Connection refused"):
        loads.run("quits", "--port", port, "--count", 1, "--clients", 1, "--sessions", 1)
