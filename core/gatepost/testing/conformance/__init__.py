"""What every plugin must satisfy, whatever it does: checks for its own tests, and for who installs a stranger's.

    from gatepost.testing import conformance

    test_conformance = conformance.suite(Blocklist, options={"domains": ["bad.example"]})

is a test for each check, and ``await conformance.check(Blocklist, options=…)`` a report of all. The plugin is asked in
sessions of ordinary and of hostile clients, in worlds where DNS, store and next hop work and where they fail. Time is
virtual, and nothing reaches the network.

The checks cannot know what a plugin is for: that it refuses what it should is for its own tests. In the sessions mail
goes from ``a@example.com`` to ``b@example.org``, from the client 192.0.2.1.
"""

from gatepost.testing.conformance.checks import CHECKS, assert_conforms, check, suite
from gatepost.testing.conformance.report import Check, Outcome, Report, Result

__all__ = ["CHECKS", "Check", "Outcome", "Report", "Result", "assert_conforms", "check", "suite"]
