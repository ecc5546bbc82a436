"""Checks that every plugin must pass, for its own tests and for administrators who install it.

    from gatepost.testing import conformance

    test_conformance = conformance.suite(Blocklist, options={"domains": ["bad.example"]})

makes a test for each check, and ``await conformance.check(Blocklist, options=…)`` returns a report of all checks. The
plugin is asked in sessions of ordinary and hostile clients, in worlds where DNS, store and next hop work and in worlds
where they fail. Time is virtual, and nothing uses the network.

The checks cannot know the purpose of a plugin; its own tests must check that it refuses what it should. In the
sessions, the client 192.0.2.1 sends mail from ``a@example.com`` to ``b@example.org``.
"""

from gatepost.testing.conformance.checks import CHECKS, assert_conforms, check, suite
from gatepost.testing.conformance.report import Check, Outcome, Report, Result

__all__ = ["CHECKS", "Check", "Outcome", "Report", "Result", "assert_conforms", "check", "suite"]
