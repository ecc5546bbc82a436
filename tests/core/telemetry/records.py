"""Records for the tests of log, journal and explain."""

from __future__ import annotations

from typing import Any

from gatepost.decisions import deny
from gatepost.ids import new_id
from gatepost.rulings import Ruling, Said
from gatepost.telemetry.record import Record


def refusal(**changed: Any) -> Record:
    """A refusal at rcpt, with one ruling."""
    ruling = Ruling("rcpt", [("access", 0.001), Said("dnsbl", deny("listed"), 0.25)])
    ruling.decide(deny("listed"), "dnsbl")
    ruling.unasked = ("greylist",)
    facts: dict[str, Any] = {
        "id": new_id(),
        "at": 1_800_000_000.0,
        "event": "refused",
        "session": "3000000000",
        "client": "192.0.2.7",
        "helo": "mail.example.com",
        "sender": "a@example.com",
        "recipients": ("b@example.org",),
        "phase": "rcpt",
        "plugin": "dnsbl",
        "reply": "550 5.7.1 listed [3k9q0zf7ab]",
        "rulings": (ruling,),
        "seconds": 0.25,
    }
    facts |= changed
    facts.setdefault("recipient_count", len(facts["recipients"]))
    return Record(**facts)
