"""Each phase in which a plugin can refuse has its reply codes."""

from gatepost.hookspecs import ALL_RUN, PHASES
from gatepost.replies import PHASE_CODES


def test_every_phase_in_which_a_plugin_can_refuse_has_reply_codes_and_no_other() -> None:
    can_refuse = set(PHASES) - ALL_RUN - {"greeting"}
    assert set(PHASE_CODES) == can_refuse, "a phase has codes in PHASE_CODES, or is in ALL_RUN because nobody decides"
