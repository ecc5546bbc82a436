"""A real Postfix (Debian's package) with a private configuration, queue and maildir, to stand behind gatepost.

Its listener is the one in ``core/gatepost/cli/postfix-master.cf``, which the manual recommends, on a reserved port of
loopback. It sends no DNS queries, runs without chroot, and takes mail for ``DOMAIN`` only. Mail to any address there is
delivered to one maildir, except for ``UNKNOWN``, which does not exist. This module knows nothing of gatepost. It needs
root, because Postfix starts as root and drops its privileges itself.

Messages are counted in ``messages()`` by the Message-ID of each file in the maildir. ``smtp-source`` writes
``Message-Id: <PID.FD.LEFT@HOST>`` with three hexadecimal numbers: its process id, the session's file descriptor, and
the number of messages left to send. A session keeps its descriptor and the last number only decreases, so Message-IDs
are unique within a run and among concurrent runs. Postfix itself adds no Message-ID to relayed mail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import smtplib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from email import policy
from email.parser import BytesHeaderParser
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.patience import PROGRAM_PATIENCE
from tests.peers.ports import reserved_port

DOMAIN = "example.test"
UNKNOWN = f"nobody@{DOMAIN}"
LISTENER = Path(__file__).parents[2] / "core" / "gatepost" / "cli" / "postfix-master.cf"

_PROGRAMS = ("postfix", "postconf", "postqueue", "smtp-source")

_MAIN_CF = {
    "compatibility_level": "3.6",
    "command_directory": "/usr/sbin",
    "daemon_directory": "/usr/lib/postfix/sbin",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "myhostname": "mail.example.test",
    "mydestination": "",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    # A careless setting, which the listener must override.
    "mynetworks": "127.0.0.0/8",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "smtpd_peername_lookup": "no",
    "disable_dns_lookups": "yes",
    "virtual_mailbox_domains": DOMAIN,
    "virtual_mailbox_limit": "0",
    "default_transport": "discard:",
    "message_size_limit": "62914560",
    "maillog_file_prefixes": "/",
    # Retry deferred mail after seconds instead of minutes.
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "2s",
    "queue_run_delay": "1s",
}

_SERVICES = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


def missing() -> str | None:
    """Return the reason why Postfix cannot run here, or None if it can."""
    absent = [program for program in _PROGRAMS if not shutil.which(program)]
    if absent:
        return f"Postfix is not installed (no {', '.join(absent)}): apt-get install postfix"
    if os.geteuid() != 0:
        return "Postfix can only be started by root"
    return None


class Postfix:
    """One Postfix instance, as a context manager: started on entry, stopped and removed on exit.

    It listens on ``port`` of 127.0.0.1. ``settings`` replace lines of its main.cf.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        # Not pytest's folder: only root may enter that one, and Postfix's daemons do not run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-postfix-"))
        self.folder.chmod(0o755)
        # Held while Postfix is stopped too: it must come back on the port that gatepost forwards to.
        self._reserved = contextlib.ExitStack()
        self.port = self._reserved.enter_context(reserved_port())
        self.etc = self.folder / "etc"
        self.log = self.folder / "log"
        self.inbox = self.folder / "mail" / "inbox"
        self._lay_out(settings or {})

    def __enter__(self) -> Self:
        try:
            self.start()
        except RuntimeError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._reserved.close()
        shutil.rmtree(self.folder)

    def _lay_out(self, settings: Mapping[str, str]) -> None:
        for name in ("etc", "queue", "data", "mail"):
            (self.folder / name).mkdir(mode=0o755)
        shutil.chown(self.folder / "data", "postfix")
        # A Postfix that was killed in mid-message complains of left-over files at its next start, and by then no longer
        # as root: its log must belong to its own account.
        self.log.touch()
        shutil.chown(self.log, "postfix")
        shutil.chown(self.folder / "mail", "nobody", "nogroup")
        nobody = (self.folder / "mail").stat()
        (self.etc / "mailboxes").write_text(f"!/^{UNKNOWN}$/ inbox/\n")
        placed = {
            "virtual_mailbox_maps": f"regexp:{self.etc}/mailboxes",
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "data"),
            "maillog_file": str(self.log),
            "virtual_mailbox_base": str(self.folder / "mail"),
            "virtual_uid_maps": f"static:{nobody.st_uid}",
            "virtual_gid_maps": f"static:{nobody.st_gid}",
        }
        lines = {**_MAIN_CF, **placed, **settings}
        (self.etc / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        self._write_master(LISTENER.read_text())

    def _write_master(self, listener: str) -> None:
        (self.etc / "master.cf").write_text(listener.replace("127.0.0.1:10025", f"127.0.0.1:{self.port}") + _SERVICES)

    def use_listener(self, listener: str) -> None:
        """Start again with these lines of master.cf, whose port is replaced by ours."""
        self.kill()
        self._write_master(listener)
        self.start()

    def start(self) -> None:
        """Start Postfix, after ``kill`` with the queue as it was, and wait until it answers.

        Raises RuntimeError with Postfix's log if it does not.
        """
        self._run("postfix", "-c", str(self.etc), "start")
        self._wait("answer", self._answers)

    def kill(self) -> None:
        """Kill all processes of this Postfix at once, as a power cut would. Does nothing if none runs."""
        master = self._master()
        if master is None:
            return
        # master makes itself the leader of a process group, which its children stay in.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(master, signal.SIGKILL)
        self._wait("die", lambda: not self._answers() and not _group_lives(master))
        (self.folder / "queue" / "pid" / "master.pid").unlink()

    def deliver(self) -> None:
        """Wait until the queue is empty, so that all mail that Postfix took is in the maildir."""
        self._run("postqueue", "-c", str(self.etc), "-f")
        self._wait("empty its queue", lambda: not self.queued())

    def queued(self) -> list[str]:
        """Return one line of JSON for each message that is not delivered yet."""
        listing = self._run("postqueue", "-c", str(self.etc), "-j")
        return [line for line in listing.splitlines() if line]

    def messages(self) -> list[str]:
        """Return the Message-ID of every delivered message, as often as it was delivered."""
        parse = BytesHeaderParser(policy=policy.default).parsebytes
        return [str(parse(mail).get("Message-ID", "(none)")) for mail in self.delivered()]

    def delivered(self) -> list[bytes]:
        """Return the content of every delivered message."""
        return [file.read_bytes() for file in sorted(self.inbox.glob("new/*"))]

    def _master(self) -> int | None:
        try:
            return int((self.folder / "queue" / "pid" / "master.pid").read_text())
        except FileNotFoundError:
            return None

    def _answers(self) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, local_hostname="localhost", timeout=5):
                return True
        except OSError:
            return False

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PROGRAM_PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"Postfix did not {what}; its log:\n{self._log_text()}")
            time.sleep(0.02)

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") or "(empty)"

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}\n{self._log_text()}")
        return done.stdout


def smtp_source(
    port: int, messages: int, sessions: int = 1, *, recipient: str = f"inbox@{DOMAIN}", options: Iterable[str] = ()
) -> subprocess.Popen[str]:
    """Start Postfix's load generator against a server on 127.0.0.1 and return its process.

    It keeps ``sessions`` connections busy until ``messages`` are sent. At the first unexpected reply it ends with
    status 1 and a line on stderr. ``options`` are those of smtp-source(1): ``-d`` reuses connections, ``-l`` sets the
    size of a message in octets.
    """
    command = ["smtp-source", "-m", str(messages), "-s", str(sessions), "-f", "sender@example.org", "-t", recipient]
    return subprocess.Popen(
        [*command, *options, f"inet:127.0.0.1:{port}"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )


def _group_lives(group: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _parent, member_of = stat.read_text().rpartition(")")[2].split()[:3]
            # A zombie holds neither queue files nor sockets.
            if int(member_of) == group and state != "Z":
                return True
    return False
