"""``gatepost log``: search the records of the journal, list them and count them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gatepost.cli.printing import config_option, json_option, load_config, print_json, print_table, say

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
FIELDS = ("event", "plugin", "observed", "client", "sender", "recipient", "hour", "day")


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return seconds since the epoch of a time in the past: ``2h`` ago, or a date, in UTC as in the log."""
    if value is None:
        return None
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", value):
        return time.time() - float(found[1]) * UNITS[found[2]]
    try:
        date = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f'{value!r} is neither "2h" nor "3d" nor a time such as 2026-01-31T12:00') from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


@click.command("log", short_help="Search the refusals and accepted messages: list them or count them.")
@click.option("--since", callback=moment, metavar="TIME", help="Not older: 2h, 3d, or 2026-01-31T12:00 (UTC).")
@click.option("--until", callback=moment, metavar="TIME", help="Older than this.")
@click.option("--event", type=click.Choice(["refused", "accepted"]), help="The outcome.")
@click.option("--client", metavar="ADDRESS", help="The client's address, or a network such as 192.0.2.0/24.")
@click.option("--sender", metavar="PATTERN", help='An address, "@" and a domain, or "" for bounces.')
@click.option("--recipient", metavar="PATTERN", help='An address, or "@" and a domain.')
@click.option("--plugin", metavar="NAME", help="The plugin that decided.")
@click.option("--observed", metavar="NAME", help='A plugin in observe mode that answered; "*" for any.')
@click.option("--last", "-n", "most", type=click.IntRange(min=1), default=50, show_default=True, help="List so many.")
@click.option("--count", "count_only", is_flag=True, help="Print only the number of records.")
@click.option("--by", "field", type=click.Choice(FIELDS), help="Count by this, the most frequent first.")
@config_option
@json_option
def command(  # one parameter for each option
    path: Path | None, as_json: bool, most: int, count_only: bool, field: str | None, **searched: Any
) -> None:
    """Search the journal, and list the records that match all options, the newest last.

    In PATTERN, "*" stands for any characters; capitals do not matter. Ten recipients of a message are searched. For
    everything about one record, pass its id to gatepost explain. The exit status is 0 even if no record matches.
    """
    from gatepost import telemetry

    config = load_config(path)
    if not config.journal.enabled:
        raise click.ClickException("the journal is switched off: [journal] enabled = false")
    query = telemetry.Query(**searched)
    if field is not None:
        counts = telemetry.count_by(config.journal.path, query, field, most)
        if as_json:
            print_json([{field: value, "records": number} for value, number in counts])
        else:
            print_table(("records", field), [(number, value or "-") for value, number in counts])
    elif count_only:
        number = telemetry.count(config.journal.path, query)
        print_json({"records": number}) if as_json else say(str(number))
    else:
        found = telemetry.search(config.journal.path, query, most)[::-1]
        print_json(found) if as_json else _print(found)


def _print(found: list[dict[str, Any]]) -> None:
    columns = ("when", "event", "client", "from", "to", "plugin", "reply", "id")
    print_table(columns, [_row(facts) for facts in found])


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    when = datetime.fromtimestamp(facts["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    sender = "" if facts["sender"] is None else f"<{facts['sender']}>"
    others = facts["recipient_count"] - 1
    recipients = "".join(f"<{recipient}>" for recipient in facts["recipients"][:1])
    if others > 0:
        recipients += f" +{others}"
    reply = facts["reply"].replace(f" [{facts['id']}]", "")
    return when, facts["event"], facts["client"], sender, recipients, facts["plugin"], reply, facts["id"]
