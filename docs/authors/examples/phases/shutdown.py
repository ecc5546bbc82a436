"""Log at shutdown how many messages were accepted."""

from gatepost import Log, hookimpl


class Total:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.messages = 0

    @hookimpl
    def queued(self) -> None:
        self.messages += 1

    @hookimpl
    def shutdown(self) -> None:
        self.log.info("total", messages=self.messages)
