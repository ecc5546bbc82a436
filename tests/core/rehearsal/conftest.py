"""Policies are checked through the command line, so its fixture is needed here too."""

from tests.core.cli.conftest import folder

__all__ = ["folder"]
