"""State in the greeting what is not wanted here. The first word of a greeting is our name (RFC 5321, section 4.2)."""

from gatepost import Server, hookimpl


class Greeting:
    @hookimpl
    def startup(self, server: Server) -> None:
        self.text = f"{server.hostname} ESMTP - no advertisements"

    @hookimpl
    def greeting(self) -> str:
        return self.text
