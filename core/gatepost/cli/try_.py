"""``gatepost try``: one simulated session, described by flags, through the configured policy."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatepost.cli.explain import took
from gatepost.cli.printing import config_option, json_option, load_config, print_json, print_table, say

if TYPE_CHECKING:
    from gatepost.rehearsal import Step, Trial


def _address(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise click.BadParameter(f"{value} is not an IP address") from None
    # A session has the IPv4 address of a client that connects to an IPv6 socket over IPv4.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@click.command("try", short_help="Simulate one session and show what every plugin says.")
@click.option("--ip", default="192.0.2.1", show_default=True, callback=_address, help="The client's address.")
@click.option("--helo", default="client.example.com", show_default=True, help="The name that it gives in EHLO.")
@click.option(
    "--from", "sender", default="sender@example.com", show_default=True, help='MAIL FROM; "" is the null reverse-path.'
)
@click.option(
    "--to",
    "recipients",
    multiple=True,
    metavar="ADDRESS",
    help="RCPT TO; may be repeated. [default: postmaster, to whom delayed refusals and the score do not apply]",
)
@click.option(
    "--message",
    type=click.File("rb"),
    metavar="FILE",
    help="The message; - is standard input. Default: a short one.",
)
@click.option("--early", is_flag=True, help="The client talks before the greeting.")
@click.option("--listener", metavar="NAME", help="The [listen] table that it connects to. Default: the first.")
@click.option("--deliver", is_flag=True, help="Really deliver the message. Otherwise no plugin is asked to deliver.")
@click.option("--store", is_flag=True, help="Use the configured store. Otherwise plugins remember nothing.")
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, path: Path | None, as_json: bool, **flags: Any) -> None:
    """Simulate one session, without a socket, and show what every plugin says and why.

    Deliberate delays take no time. DNS queries are real, and a plugin that verifies recipients at the next hop
    (forward) really asks there. The message is delivered with --deliver only.

    The exit status is 0 if the message would be accepted for all recipients, and 1 if anything is refused.
    """
    from gatepost.rehearsal import Flags, play

    config = load_config(path)
    message = flags.pop("message")
    content = message.read() if message else None
    listener = flags["listener"] = flags["listener"] or next(iter(config.listeners), "")
    if listener and listener not in config.listeners:
        raise click.BadParameter(f"there is no [listen.{listener}]", param_hint="--listener")
    report = asyncio.run(play(config, Flags(content=content, **flags)))
    if as_json:
        print_json(report.facts())
    else:
        _print(report)
    ctx.exit(0 if report.accepted else 1)


def _print(report: Trial) -> None:
    print_table(("phase", "plugin", "said", "took"), (row for step in report.steps for row in _rows(step)))
    say("")
    for event in report.events:
        say(f"log: {event['event']}: " + ", ".join(f"{key}={value}" for key, value in event.items() if key != "event"))
    say(report.outcome)


def _rows(step: Step) -> list[tuple[str, str, str, str]]:
    rows = [(f"> {step.said}", "", "", "")]
    for ruling in step.rulings:
        for said in ruling.said:
            notes = ("observed, not applied",) * said.observed + said.withheld
            rows.append((ruling.phase, said.plugin, "; ".join((str(said), *notes)), took(said.seconds)))
        rows += [(ruling.phase, plugin, "not asked", "") for plugin in ruling.unasked]
        if ruling.spoken_at:
            rows.append((ruling.phase, "", f"delayed until {ruling.spoken_at}", ""))
    waited = f"{step.waited:g} s skipped" if step.waited else ""
    return [*rows, ("", "", f"< {step.reply}", waited)]
