"""Log each refusal with its plugin and phase."""

from gatepost import Log, Ruling, hookimpl


class Refusals:
    def __init__(self, log: Log) -> None:
        self.log = log

    @hookimpl
    def ruled(self, ruling: Ruling) -> None:
        if ruling.refuses:
            self.log.info("refused", by=ruling.plugin, at=ruling.phase, answer=str(ruling.decision))
