"""``gatepost check``: every mistake of the configuration at once, and policies that are probably not intended."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatepost.cli import BAD_CONFIG
from gatepost.cli.printing import config_option, find_config, json_option, print_json, print_table, say

if TYPE_CHECKING:
    from gatepost.errors import Mistake


@click.command("check", short_help="Show every mistake of the configuration at once.")
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, path: Path | None, as_json: bool) -> None:
    """Show every mistake of the configuration at once, each with its file and line.

    Plugins are loaded, and no socket is bound. Settings that are valid but probably not intended are warnings: no
    plugin vouches for recipients, no plugin delivers, anyone may relay, a plugin is never reached, a next hop is
    gatepost itself. A table lists which plugins may grant what.

    The exit status is 78 if there are errors, and 0 if there are none or only warnings.
    """
    import asyncio

    found = find_config(path)
    report = asyncio.run(examine(found))
    if as_json:
        print_json(report.facts())
    else:
        _print(report)
    ctx.exit(BAD_CONFIG if report.errors else 0)


@dataclass(slots=True)
class Report:
    """The findings about a configuration."""

    source: str
    errors: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)
    grants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """Return the report as plain values, for JSON."""
        return {
            "source": self.source,
            "errors": [asdict(mistake) for mistake in self.errors],
            "warnings": [asdict(mistake) for mistake in self.warnings],
            "order": self.order,
            "grants": self.grants,
        }


async def examine(path: Path | None) -> Report:
    """Return everything that can be known about a configuration.

    The plugins are loaded even if the configuration has mistakes, and the policy of those that could be loaded is
    examined, so that nobody mends one mistake only to be told the next.
    """
    from gatepost.config import survey_config
    from gatepost.events import NULL_RECORDER
    from gatepost.plugins import survey_policy
    from gatepost.rehearsal import findings, granted, offline_services, unusable_for_user

    config, errors = survey_config(path, os.environ)
    report = Report(str(path or "the embedded default"), errors)
    if config is None:
        return report
    policy, wrong = survey_policy(config, offline_services(config), NULL_RECORDER)
    report.errors += wrong
    report.order, report.grants = config.order, granted(policy)
    report.warnings += policy.deprecations
    for finding in await findings(policy, config, tuple(report.errors)):
        (report.errors if finding.is_error else report.warnings).append(finding.mistake)
    report.warnings += unusable_for_user(config, path, os.environ, report.errors)
    # Those of the configuration, of plugins and of the policy, in the order of the files.
    report.errors.sort(key=lambda mistake: (mistake.where != str(path), mistake.where, mistake.line))
    return report


def _print(report: Report) -> None:
    for kind, mistakes in (("error", report.errors), ("warning", report.warnings)):
        for mistake in mistakes:
            say(f"{kind}: {mistake}")
    if report.grants:
        if report.errors or report.warnings:
            say("")
        plugins: dict[str, list[str]] = {}
        for name, granted in report.grants.items():
            for grant in granted:
                plugins.setdefault(grant, []).append(name)
        print_table(("may grant", "plugin"), [(grant, ", ".join(plugins[grant])) for grant in sorted(plugins)[::-1]])
        say("")
    say(f"{report.source}: {_count(report.errors, 'error')}, {_count(report.warnings, 'warning')}")


def _count(mistakes: list[Mistake], noun: str) -> str:
    return f"{len(mistakes)} {noun}" + ("" if len(mistakes) == 1 else "s")
