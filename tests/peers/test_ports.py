"""A reserved port belongs to one server, whether it runs or is stopped."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from tests.peers import ports
from tests.peers.ports import loopback, reserved_port


def connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=10).close()


def test_a_server_listens_on_its_reserved_port_and_comes_back_to_it() -> None:
    with reserved_port() as port:
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port)):  # sets SO_REUSEADDR, as servers do
                connect(port)
            with pytest.raises(ConnectionRefusedError):
                connect(port)


@pytest.mark.parametrize("host", loopback())
def test_nobody_reserves_a_port_twice(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PORTS", range(20_100, 20_110))
    with ExitStack() as stack:
        reserved = [stack.enter_context(reserved_port([host])) for _ in range(4)]
        assert len(set(reserved)) == 4


def test_a_port_with_a_udp_server_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with reserved_port() as free, reserved_port() as taken:
        pass
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", taken))
        monkeypatch.setattr(ports, "PORTS", (free, taken))
        for _ in range(10):
            with reserved_port() as port:
                assert port == free


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign requested address"), reserved_port(["192.0.2.1"]):
        pass
