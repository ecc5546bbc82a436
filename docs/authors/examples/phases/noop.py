"""Disconnect clients that keep a connection open with NOOP. Notes are a plugin's own memory of a session."""

from gatepost import Decision, Session, defer, hookimpl


class Idlers:
    @hookimpl
    def noop(self, session: Session) -> Decision | None:
        notes = session.notes(self)
        notes["count"] = notes.get("count", 0) + 1
        return defer("come back when you have mail", disconnect=True) if notes["count"] > 10 else None
