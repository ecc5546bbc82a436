"""Refuse TLS to networks whose clients abort the handshake: they then continue without it."""

from gatepost import Decision, Network, Options, Session, defer, hookimpl


class WithoutTlsOptions(Options):
    networks: tuple[Network, ...] = ()
    """Networks whose clients cannot do TLS."""


class WithoutTls:
    Options = WithoutTlsOptions

    def __init__(self, options: WithoutTlsOptions) -> None:
        self.options = options

    @hookimpl
    def starttls(self, session: Session) -> Decision | None:
        if any(session.ip in network for network in self.options.networks):
            return defer("go on without TLS")
        return None
