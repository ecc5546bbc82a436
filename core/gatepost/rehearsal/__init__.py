"""Rehearsals: policies driven without sockets, for ``gatepost try``, ``check`` and the test kit."""

from gatepost.rehearsal.as_user import unusable_for_user
from gatepost.rehearsal.check import findings, granted
from gatepost.rehearsal.offline import offline_services
from gatepost.rehearsal.rehearsal import Rehearsal
from gatepost.rehearsal.trial import Flags, Step, Trial, play

__all__ = [
    "Flags",
    "Rehearsal",
    "Step",
    "Trial",
    "findings",
    "granted",
    "offline_services",
    "play",
    "unusable_for_user",
]
