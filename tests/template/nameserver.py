"""A name server on loopback that answers every query with NXDOMAIN (RFC 1035 §4.1.1)."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

NXDOMAIN = b"\x81\x83"
"""Flags of a response with recursion desired and available, and RCODE 3."""


class Nameserver:
    """Answers on ``port`` while its ``with`` block runs."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            if not question:
                return
            self._socket.sendto(question[:2] + NXDOMAIN + question[4:], client)
