"""``gatepost explain`` prints the record whose id a refusal carried, while the server that wrote it is running."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.end_to_end.client import connected, message, record_of
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate
from tests.patience import PATIENCE

POLICY = """
[plugins]
order = ["access", "recipients", "watching", "greylist", "discard"]
[plugins.access]
deny = [{ sender = "bad@example.org", reason = "we know you" }]
[plugins.recipients]
domains = ["example.test"]
[plugins.greylist]
by_name = false
[plugins.watching]
use = "access"
mode = "observe"
deny = [{ recipient = "b@example.test", reason = "only watched" }]
"""


def record(gate: Gate, identifier: str) -> dict[str, Any]:
    """Return the record as JSON, as soon as it is there: records are written in batches."""
    end = time.monotonic() + PATIENCE
    while (done := gate.explain(identifier, "--json")).returncode:
        assert done.returncode == 1 and time.monotonic() < end, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


async def test_the_record_of_a_refusal_says_who_decided_and_what_the_others_said(start_gate: StartGate) -> None:
    gate = start_gate(POLICY)
    async with connected(gate.port, source="127.0.0.7") as client:
        await client.greet("client.example.org")
        (refusal,) = await client.envelope(["b@example.test"])
    assert refusal.startswith(b"451 4.7.1 greylisted")
    identifier = record_of(refusal)
    facts = record(gate, identifier)

    assert facts["id"] == identifier and facts["reply"] == refusal.decode().strip()
    assert (facts["client"], facts["helo"], facts["sender"]) == ("127.0.0.7", "client.example.org", "a@example.org")
    assert (facts["recipients"], facts["plugin"], facts["phase"]) == (["b@example.test"], "greylist", "rcpt")
    (ruling,) = [ruling for ruling in facts["rulings"] if ruling["phase"] == "rcpt"]
    assert [said["plugin"] for said in ruling["said"]] == ["recipients", "watching", "greylist"]  # access has no entry
    (watched,) = [said for said in ruling["said"] if said["observed"]]
    assert "only watched" in watched["answer"]
    assert "accepted" in ruling["otherwise"]


async def test_without_json_it_is_printed_for_people(start_gate: StartGate) -> None:
    gate = start_gate(POLICY)
    async with connected(gate.port) as client:
        await client.greet()
        refusal = await client.transaction("b@example.test", message("<x@example.org>"), sender="bad@example.org")
    assert refusal.startswith(b"550 5.7.1 we know you [")
    gate.stop()

    done = gate.explain(record_of(refusal))
    assert (done.returncode, done.stderr) == (0, "")
    for part in (record_of(refusal), "access", "we know you", "127.0.0.1", "bad@example.org", "b@example.test"):
        assert part in done.stdout


def test_an_unknown_id_is_an_error(start_gate: StartGate) -> None:
    done = start_gate(POLICY).explain("0000000000")
    assert done.returncode == 1
    assert "0000000000" in done.stderr and "Traceback" not in done.stderr
