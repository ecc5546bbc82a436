"""The server's account to its administrator: log lines, records and the journal."""

from gatepost.telemetry.journal import KEPT, Journal
from gatepost.telemetry.log import EventLog, escaped, json_line, open_log
from gatepost.telemetry.record import RECIPIENTS_KEPT, Record, reply_text
from gatepost.telemetry.search import FIELDS, Query, count, count_by, find_records, search

__all__ = [
    "FIELDS",
    "KEPT",
    "RECIPIENTS_KEPT",
    "EventLog",
    "Journal",
    "Query",
    "Record",
    "count",
    "count_by",
    "escaped",
    "find_records",
    "json_line",
    "open_log",
    "reply_text",
    "search",
]
