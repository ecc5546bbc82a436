"""Plant small faults in the sources and see whether a test notices each: ``scripts/mutate``.

A fault that no test notices is a test that is missing, or one that changes nothing that can be seen from outside. The
latter stand in ``survivors.toml``, each with its reason. Exit status: 0; 1 if more mutants survived than are allowed.
"""

from __future__ import annotations

import os
import random
import sys
import time
import tomllib
from itertools import islice
from pathlib import Path

import click
import orjson
from rich.console import Console

from tests.mutation.choosing import ROOT, learn
from tests.mutation.mutants import Mutant, is_valid, mutants_of
from tests.mutation.running import Result, run_all

MODULES = (
    "core/gatepost/conversation",
    "core/gatepost/gate",
    "core/gatepost/message",
    "core/gatepost/services/next_hop",
    "plugins_builtin/gatepost_builtin",
)
"""The folders whose modules are mutated: what judges mail, and what hands it over."""
ALLOWED = 5.0
"""Percent of mutants that may survive although they are not in the list."""
LIST = Path(__file__).with_name("survivors.toml")


@click.command()
@click.option("--count", default=600, show_default=True, help="Mutants to try: the same share of each module.")
@click.option("--seed", default=5321, show_default=True, help="Chooses the mutants.")
@click.option("--minutes", default=60, show_default=True, help="Stop after this time; the rest is not tried.")
@click.option("--only", metavar="TEXT", help="Only modules whose path contains TEXT.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Mutants to try at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print the survivors as JSON.")
def main(count: int, seed: int, minutes: int, only: str | None, workers: int, as_json: bool) -> None:
    """Plant faults in the sources, one at a time, and list those that no test notices."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = sample(count, seed, only or "")
    console.print(f"{len(chosen)} mutants; the tests of each line are found first")
    suite = learn()
    known = set(tomllib.loads(LIST.read_text())["harmless"])
    survived: list[Result] = []
    tried = 0

    def done(result: Result) -> None:
        nonlocal tried
        tried += 1
        if not result.noticed:
            survived.append(result)
            reason = " (listed)" if result.mutant.name in known else ""
            console.print(f"{tried}: survived {result.tests} tests{reason}: {result.mutant.name}", markup=False)
        elif tried % 20 == 0:
            console.print(f"{tried} of {len(chosen)} tried, {len(survived)} survived")

    run_all(chosen, suite, workers, time.monotonic() + minutes * 60, done)
    unlisted = sorted({result.mutant.name for result in survived} - known)
    if as_json:
        click.echo(orjson.dumps({"tried": tried, "survived": len(survived), "unlisted": unlisted}))
    else:
        for name in unlisted:
            click.echo(name)
    percent = 100 * len(unlisted) / max(tried, 1)
    console.print(
        f"{tried} of {len(chosen)} tried; {len(survived)} survived, {len(unlisted)} not listed: {percent:.1f} %"
    )
    sys.exit(percent > ALLOWED)


def sample(count: int, seed: int, only: str) -> list[Mutant]:
    """Return ``count`` mutants, the same share of each module, in a random order; of those, the ones in ``only``."""
    files = [file for folder in MODULES for file in sorted((ROOT / folder).rglob("*.py")) if file.name != "__init__.py"]
    found = {str(file.relative_to(ROOT)): mutants_of(str(file.relative_to(ROOT)), file.read_text()) for file in files}
    whole = sum(map(len, found.values()))
    chosen: list[Mutant] = []
    for path, mutants in found.items():
        if only in path:
            # A seed for each module, so that a change of one module chooses no others in the rest.
            random.Random(f"{seed} {path}").shuffle(mutants)
            source = (ROOT / path).read_text()
            readable = (mutant for mutant in mutants if is_valid(mutant, source))
            chosen += islice(readable, round(count * len(mutants) / whole))
    random.Random(seed).shuffle(chosen)
    return chosen


if __name__ == "__main__":
    main()
