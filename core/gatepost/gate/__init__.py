"""The gate: asks the plugins of a phase in order, and rules."""

from gatepost.gate.chain import Chain, Hook, Kind, arguments_of, kind_of
from gatepost.gate.composition import fault_of
from gatepost.gate.gate import Gate
from gatepost.gate.instance import GRANTS, CircuitBreaker, Declaration, Instance, Mode
from gatepost.gate.score import Score, rule_score
from gatepost.gate.slow_path import STALL_SECONDS

__all__ = [
    "GRANTS",
    "STALL_SECONDS",
    "Chain",
    "CircuitBreaker",
    "Declaration",
    "Gate",
    "Hook",
    "Instance",
    "Kind",
    "Mode",
    "Score",
    "arguments_of",
    "fault_of",
    "kind_of",
    "rule_score",
]
