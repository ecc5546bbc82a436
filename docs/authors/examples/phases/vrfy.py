"""Never reveal which mailboxes exist."""

from gatepost import Decision, deny, hookimpl


@hookimpl
def vrfy(argument: str) -> Decision:
    return deny("send it, and you will see", 502, "5.5.1")
