"""Plugins: from entry points and TOML to a loaded policy."""

from gatepost.plugins.contract import hooks_of, phases_of, problems_of
from gatepost.plugins.discovery import Installed, find_plugins, installed
from gatepost.plugins.distributions import imprint, pins
from gatepost.plugins.lifecycle import Jobs, end_plugins, start_plugins
from gatepost.plugins.load import Policy, load_policy, make_gate, register, survey_plugins
from gatepost.plugins.services import SERVICES, Services
from gatepost.plugins.template import Question, bake, default_of, objections, questions

__all__ = [
    "SERVICES",
    "Installed",
    "Jobs",
    "Policy",
    "Question",
    "Services",
    "bake",
    "default_of",
    "end_plugins",
    "find_plugins",
    "hooks_of",
    "imprint",
    "installed",
    "load_policy",
    "make_gate",
    "objections",
    "phases_of",
    "pins",
    "problems_of",
    "questions",
    "register",
    "start_plugins",
    "survey_plugins",
]
