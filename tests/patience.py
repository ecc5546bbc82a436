"""The time that a test waits for others before it fails, long enough for a busy machine.

These limits only end tests that would hang. They never measure speed, for which the benchmark is there.
"""

from __future__ import annotations

PATIENCE = 60.0
"""Seconds in which a server starts, answers or stops."""

PROGRAM_PATIENCE = 300.0
"""Seconds in which a program such as mypy, or a run of tests, ends."""
