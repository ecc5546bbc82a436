"""``gatepost explain``: the reasons why a message was refused or accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gatepost.cli.printing import config_option, json_option, load_config, print_json, print_table, say


@click.command("explain", short_help="Show which plugin decided about a message or client, and why.")
@click.argument("identifier", metavar="ID")
@config_option
@json_option
def command(identifier: str, path: Path | None, as_json: bool) -> None:
    """Print the record of a decision.

    The record shows which plugins were asked, what each said, and the outcome without the deciding plugin.

    ID is the id in brackets at the end of a refusal, or the word after "queued as" in the reply to a message. Its first
    characters suffice if they are unique. The exit status is 1 if there is no such record: the journal keeps only the
    most recent ones.
    """
    facts = _record(load_config(path), identifier.strip("[] ").lower())
    if as_json:
        print_json(facts)
    else:
        _print(facts)


def _record(config: Any, identifier: str) -> dict[str, Any]:
    from gatepost.telemetry import find_records

    if not config.journal.enabled:
        raise click.ClickException("the journal is switched off: [journal] enabled = false")
    found = find_records(config.journal.path, identifier) if identifier else []
    exact = [facts for facts in found if facts["id"] == identifier]
    if len(found) > 1 and not exact:
        raise click.ClickException(f"several ids begin like this: {', '.join(facts['id'] for facts in found)}")
    if not found:
        raise click.ClickException(f"no record {identifier} in {config.journal.path}, which keeps only the last ones")
    return (exact or found)[0]


def _print(facts: dict[str, Any]) -> None:
    when = datetime.fromtimestamp(facts["at"], UTC).isoformat(sep=" ", timespec="seconds")
    sender = facts["sender"]
    lines = {
        "id": facts["id"],
        "when": when.replace("+00:00", " UTC"),
        "outcome": f"{facts['event']}: {facts['reply']}",
        "decided by": f"{facts['plugin']} at {facts['phase']}",
        "client": f"{facts['client']}, HELO {facts['helo'] or 'not given'}",
        "trusted": facts["trusted"],
        "sender": "" if sender is None else f"<{sender}>",
        "recipients": _recipients(facts),
        "size": f"{facts['size']} octets" if facts["size"] else "",
        "next hop": facts.get("next_hop", ""),  # a record of an earlier version has none
        "not taken": "; ".join(facts.get("failed_next_hops", ())),
        "session": facts["session"],
    }
    for name, value in lines.items():
        if value:
            say(f"{name + ':':<12}{value}")
    say("")
    rows = (row for ruling in facts["rulings"] for row in _rows(ruling))
    print_table(("phase", "plugin", "said", "took", "note"), rows)


def _recipients(facts: dict[str, Any]) -> str:
    named = facts["recipients"]
    others = facts.get("recipient_count", 0) - len(named)  # journals of an earlier version have no count
    return ", ".join(f"<{recipient}>" for recipient in named) + (f" and {others} others" if others > 0 else "")


def _rows(ruling: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return the plugins that were asked in one phase with their answers, and the outcome."""
    phase = ruling["phase"] + (f" <{ruling['recipient']}>" if ruling["recipient"] else "")
    rows = []
    for said in ruling["said"]:
        notes = ("observed, not applied",) * said["observed"] + tuple(said["withheld"])
        rows.append((phase, said["plugin"], said["answer"], took(said["seconds"]), "; ".join(notes)))
    rows += [(phase, plugin, "not asked", "", "") for plugin in ruling["unasked"]]
    if ruling["outcome"]:
        until = f", delayed until {ruling['spoken_at']}" if ruling["spoken_at"] else ""
        rows.append((phase, f"= {ruling['plugin']}", ruling["outcome"] + until, took(ruling["seconds"]), ""))
        rows.append((phase, "", f"without {ruling['plugin']}: {ruling['otherwise']}", "", ""))
    return rows


def took(seconds: float) -> str:
    """Return a duration for a table."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
