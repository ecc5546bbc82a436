"""A real Dovecot (Debian's dovecot-lmtpd) that takes mail by LMTP, with a quota for each mailbox, on a reserved port.

    with Dovecot({"bob@example.test": 10}) as peer:  # octets that a mailbox holds
        ...  # deliver to peer.url
        assert peer.count("bob@example.test") == 0

It needs root, as Dovecot does. This module knows nothing of gatepost.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.patience import PATIENCE
from tests.peers.ports import reserved_port

CONFIGURATION = """
base_dir = {folder}/run
log_path = {folder}/log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = maildir:{folder}/mail/%u
mail_plugins = quota
postmaster_address = postmaster@example.test
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users
}}
plugin {{
  quota = maildir:User
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


def missing() -> str | None:
    """Return the reason why Dovecot cannot run here, or None if it can."""
    if not Path("/usr/lib/dovecot/lmtp").exists() or not shutil.which("dovecot"):
        return "Dovecot is not installed: apt-get install dovecot-lmtpd"
    return None if os.getuid() == 0 else "Dovecot needs root"


class Dovecot:
    """One Dovecot, as a context manager: started on entry, stopped and removed on exit."""

    def __init__(self, quotas: Mapping[str, int]) -> None:
        owner = pwd.getpwnam("nobody")
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-dovecot-"))
        self.folder.chmod(0o755)
        (self.folder / "mail").mkdir()
        shutil.chown(self.folder / "mail", owner.pw_uid, owner.pw_gid)
        (self.folder / "users").write_text(
            "".join(
                f"{user}:{{PLAIN}}x:{owner.pw_uid}:{owner.pw_gid}::{self.folder}/mail/{user}::"
                f"userdb_quota_rule=*:bytes={quota}\n"
                for user, quota in quotas.items()
            )
        )
        self._reserved = ExitStack()
        self.port = self._reserved.enter_context(reserved_port())
        self.url = f"lmtp://127.0.0.1:{self.port}"
        self._configuration = self.folder / "dovecot.conf"
        self._configuration.write_text(CONFIGURATION.format(folder=self.folder, port=self.port))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(["dovecot", "-F", "-c", str(self._configuration)])
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if time.monotonic() > end or self._process.poll() is not None:
                log = self.folder / "log"
                text = log.read_text() if log.exists() else ""
                self._remove()
                raise RuntimeError(f"Dovecot does not answer; its log:\n{text}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def count(self, user: str) -> int:
        """Return how many messages ``user`` has got."""
        return len(list((self.folder / "mail" / user / "new").glob("*")))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
                return connection.recv(4) == b"220 "
        except OSError:
            return False

    def _remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(PATIENCE)
        self._reserved.close()
        shutil.rmtree(self.folder)
