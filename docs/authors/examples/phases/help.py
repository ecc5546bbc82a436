"""Tell people where to read what we refuse, and why."""

from gatepost import Decision, accept, hookimpl


class Policy:
    @hookimpl
    def help(self) -> Decision:
        return accept("see https://www.example.org/mail")
