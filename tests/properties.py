"""The number of examples that hypothesis gives a property; ``scripts/test --long`` asks for ten times as many.

An example that fails is kept in ``EXAMPLES`` and tried first in the next run, so that a red run comes again. A blob is
printed with it, for ``@reproduce_failure`` on another machine; CI keeps the folder of a failed run.
"""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

EXAMPLES = Path(__file__).parents[1] / ".hypothesis/examples"
_USUAL = 100


def register_profiles() -> None:
    """Define the profiles "gatepost", which is used, and "long", which ``--hypothesis-profile`` chooses."""
    # How long an example takes says nothing about the code when other processes keep the machine busy.
    settings.register_profile(
        "gatepost",
        max_examples=_USUAL,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        # Said outright, because where CI is set hypothesis keeps nothing.
        database=DirectoryBasedExampleDatabase(EXAMPLES),
        derandomize=False,  # CI would try the same examples each time
        print_blob=True,
    )
    settings.load_profile("gatepost")
    settings.register_profile("long", max_examples=10 * _USUAL, derandomize=False)


def examples(count: int) -> settings:
    """Return the settings of a property that gets ``count`` examples instead of the usual hundred."""
    return settings(max_examples=count * settings().max_examples // _USUAL)
