"""Let users log in only from inside. Another plugin, one with the grant "logins", checks the password."""

from gatepost import Decision, Session, deny, hookimpl


class Inside:
    @hookimpl
    def auth(self, session: Session) -> Decision | None:
        return None if session.ip.is_private else deny("log in from inside")
