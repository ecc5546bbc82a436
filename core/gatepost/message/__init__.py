"""A message: read from DATA, kept in the spool, and seen by plugins."""

from gatepost.message.data import DataReader
from gatepost.message.message import FIELD, Headers, Message, leave_out, printable_utf8, put_first
from gatepost.message.spool import BLOCK, Spool

__all__ = [
    "BLOCK",
    "FIELD",
    "DataReader",
    "Headers",
    "Message",
    "Spool",
    "leave_out",
    "printable_utf8",
    "put_first",
]
