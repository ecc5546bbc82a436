"""Refuse the test message that all filters know (GTUBE). A message may be in a file, so it is read in a thread."""

from gatepost import Decision, Message, deny, hookimpl

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


class TestMessage:
    @hookimpl(blocking=True)
    def message(self, message: Message) -> Decision | None:
        with message.open() as lines:
            return deny("this is the test message") if any(GTUBE in line for line in lines) else None
