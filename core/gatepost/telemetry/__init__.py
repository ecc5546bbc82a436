"""The server's account to its administrator: log lines, records and the journal."""

from gatepost.telemetry.journal import KEPT, Journal, find_records
from gatepost.telemetry.log import EventLog, escaped, json_line, open_log
from gatepost.telemetry.record import RECIPIENTS_KEPT, Record, reply_text

__all__ = [
    "KEPT",
    "RECIPIENTS_KEPT",
    "EventLog",
    "Journal",
    "Record",
    "escaped",
    "find_records",
    "json_line",
    "open_log",
    "reply_text",
]
