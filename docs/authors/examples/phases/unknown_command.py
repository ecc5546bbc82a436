"""Answer XPING, which the machine that watches us says."""

from gatepost import Decision, accept, hookimpl


@hookimpl
def unknown_command(argument: str) -> Decision | None:
    return accept("pong") if argument.upper() == "XPING" else None
