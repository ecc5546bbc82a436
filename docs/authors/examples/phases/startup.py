"""Log every hour how many clients connected."""

from gatepost import Log, Server, hookimpl


class Census:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.clients = 0

    @hookimpl
    def startup(self, server: Server) -> None:
        server.every(3600.0, self.report)

    @hookimpl
    def connect(self) -> None:
        self.clients += 1

    async def report(self) -> None:
        self.log.info("clients", count=self.clients)
        self.clients = 0
