"""Readers of DATA that are fed in blocks."""

from __future__ import annotations

import itertools
from typing import Any

from gatepost.config.model import Limits
from gatepost.message.data import DataReader
from gatepost.message.message import Message
from gatepost.message.spool import Spool

HEADER = b"From: a@example.com\r\nSubject: hello\r\n"


def reader_of(spool: Spool | None = None, *, reject: bool = False, **limits: Any) -> DataReader:
    return DataReader((spool or Spool(None)).content(), Limits.model_validate(limits), reject=reject)


def feed(reader: DataReader, octets: bytes, cuts: list[int] | None = None) -> bytes | None:
    """Feed ``octets`` in blocks that end at ``cuts``; what follows the end of data, joined with what was not fed."""
    borders = [0, *sorted(cut % (len(octets) + 1) for cut in cuts or ()), len(octets)]
    for start, end in itertools.pairwise(borders):
        rest = reader.feed(octets[start:end])
        if rest is not None:
            return rest + octets[end:]
    return None


def read(message: Message) -> bytes:
    with message.open() as content:
        return content.read()


def sent(content: bytes) -> bytes:
    """A message with canonical line ends as a client sends it: dot-stuffed, with the final dot."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"
