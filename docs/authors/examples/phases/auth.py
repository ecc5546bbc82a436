"""Let people log in from inside only. Another plugin, which grants "logins", checks the password."""

from gatepost import Decision, Session, deny, hookimpl


class Inside:
    @hookimpl
    def auth(self, session: Session) -> Decision | None:
        return None if session.ip.is_private else deny("log in from inside")
