"""The number of examples that hypothesis gives a property; ``scripts/test --long`` asks for ten times as many."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_USUAL = 100


def register_profiles() -> None:
    """Define the profiles "gatepost", which is used, and "long", which ``--hypothesis-profile`` chooses."""
    # How long an example takes says nothing about the code when other processes keep the machine busy.
    settings.register_profile(
        "gatepost", max_examples=_USUAL, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("gatepost")
    settings.register_profile("long", max_examples=10 * _USUAL, derandomize=False)


def examples(count: int) -> settings:
    """Return the settings of a property that gets ``count`` examples instead of the usual hundred."""
    return settings(max_examples=count * settings().max_examples // _USUAL)
