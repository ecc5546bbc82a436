"""Plugins: from entry points and TOML to a loaded policy."""

from gatepost.plugins.contract import (
    declaration_of,
    declaration_problems,
    declared_grants,
    hook_problems,
    hooks_of,
    options_of,
    problems_of,
)
from gatepost.plugins.discovery import Found, Installed, find_plugins, installed
from gatepost.plugins.distributions import imprint, pins
from gatepost.plugins.lifecycle import JOB, Jobs, end_plugins, start_plugins
from gatepost.plugins.load import (
    Policy,
    conflicts,
    load_policy,
    make_gate,
    make_instance,
    read_options,
    register,
    survey_plugins,
    survey_policy,
)
from gatepost.plugins.services import Services
from gatepost.plugins.template import Question, bake, default_of, objections, questions

__all__ = [
    "JOB",
    "Found",
    "Installed",
    "Jobs",
    "Policy",
    "Question",
    "Services",
    "bake",
    "conflicts",
    "declaration_of",
    "declaration_problems",
    "declared_grants",
    "default_of",
    "end_plugins",
    "find_plugins",
    "hook_problems",
    "hooks_of",
    "imprint",
    "installed",
    "load_policy",
    "make_gate",
    "make_instance",
    "objections",
    "options_of",
    "pins",
    "problems_of",
    "questions",
    "read_options",
    "register",
    "start_plugins",
    "survey_plugins",
    "survey_policy",
]
