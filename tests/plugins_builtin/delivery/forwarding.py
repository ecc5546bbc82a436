"""forward, its clients, and the next hop behind it, for its tests."""

from __future__ import annotations

from typing import Any

from gatepost.testing import Client, Peer, Policy, Reply, instance
from gatepost_builtin.delivery.forward import Forward

URL = "smtp://mail.example:25"
ONE, TWO = "smtp://one.example:25", "smtp://two.example:25"


def forward(to: str | tuple[str, ...] = URL, **options: Any) -> Any:
    """forward with these options."""
    return instance(Forward, to=to, **options)


async def client_of(policy: Policy) -> Client:
    """A client that has said EHLO."""
    client = await policy.connect()
    await client.ehlo()
    return client


def answer(peer: Peer, command: str, text: str, about: str = "", *, times: int | None = None) -> None:
    """Let the next hop answer with a reply as it stands on the wire."""
    code, _, rest = text.partition(" ")
    peer.answer(command, about, int(code), rest, times=times)


def said(reply: Reply) -> str:
    """Code and enhanced status."""
    return f"{reply.code} {reply.status}"
