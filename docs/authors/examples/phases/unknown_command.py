"""Answer XPING, a command that our monitoring sends."""

from gatepost import Decision, accept, hookimpl


@hookimpl
def unknown_command(argument: str) -> Decision | None:
    return accept("pong") if argument.upper() == "XPING" else None
