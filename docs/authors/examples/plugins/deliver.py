"""Write each message to a file in a folder from which another program reads it."""

import os
from pathlib import Path

from gatepost import Envelope, Message, Options, QueueAnswer, accept, hookimpl


class FolderOptions(Options):
    path: Path
    """The folder, which must exist."""


class Folder:
    Options = FolderOptions
    grants = "delivery"
    takes_everything = True
    commits = True

    def __init__(self, options: FolderOptions) -> None:
        self.options = options

    @hookimpl(blocking=True)
    def queue(self, envelope: Envelope, message: Message) -> QueueAnswer:
        unfinished = self.options.path / f"{envelope.id}.unfinished"
        try:
            with unfinished.open("xb") as file:
                file.write(f"Return-Path: <{envelope.sender}>\r\n".encode())
                file.writelines(f"Delivered-To: {recipient}\r\n".encode() for recipient in envelope.pending)
                file.writelines(message.blocks())
                file.flush()
                os.fsync(file.fileno())
            envelope.commit()
            unfinished.rename(self.options.path / f"{envelope.id}.eml")
            self._keep_names()
        finally:
            unfinished.unlink(missing_ok=True)
        return accept(envelope.id)

    def _keep_names(self) -> None:
        """Write the folder's entries to disk: without them, a power cut could lose the message."""
        folder = os.open(self.options.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
