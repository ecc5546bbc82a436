"""Log the size of each accepted message."""

from gatepost import Log, Message, Receipt, hookimpl


class Sizes:
    def __init__(self, log: Log) -> None:
        self.log = log

    @hookimpl
    def queued(self, message: Message, receipt: Receipt) -> None:
        self.log.info("taken", octets=message.size, by=receipt.plugins)
