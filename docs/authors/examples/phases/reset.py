"""Turn away clients that begin ten transactions and complete none: they are probing for addresses."""

from gatepost import Decision, Envelope, Session, defer, hookimpl


class Triers:
    @hookimpl
    def reset(self, session: Session, envelope: Envelope) -> None:
        if envelope.message is None:
            notes = session.notes(self)
            notes["given_up"] = notes.get("given_up", 0) + 1

    @hookimpl
    def mail(self, session: Session) -> Decision | None:
        given_up = session.notes(self).get("given_up", 0)
        return defer("try less", disconnect=True) if given_up >= 10 else None
