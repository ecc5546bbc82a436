"""A plugin that passes in every phase of a session with one message."""

from __future__ import annotations

from gatepost import Answer, QueueAnswer, hookimpl


class Passing:
    """Passes in every phase."""

    @hookimpl
    def connect(self) -> Answer:
        return None

    @hookimpl
    def helo(self) -> Answer:
        return None

    @hookimpl
    def mail(self) -> Answer:
        return None

    @hookimpl
    def rcpt(self) -> Answer:
        return None

    @hookimpl
    def data(self) -> Answer:
        return None

    @hookimpl
    def headers(self) -> Answer:
        return None

    @hookimpl
    def message(self) -> Answer:
        return None

    @hookimpl
    def queue(self) -> QueueAnswer:
        return None

    @hookimpl
    def reset(self) -> None:
        pass

    @hookimpl
    def disconnect(self) -> None:
        pass
