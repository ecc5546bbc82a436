"""Log how long each client was connected."""

from gatepost import Clock, Log, Session, hookimpl


class Stay:
    def __init__(self, clock: Clock, log: Log) -> None:
        self.clock = clock
        self.log = log

    @hookimpl
    def disconnect(self, session: Session) -> None:
        self.log.info("left", client=session.client, seconds=self.clock.monotonic() - session.started)
