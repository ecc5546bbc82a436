"""Listening sockets, file descriptors, privileges and folders: the server's requests to the operating system.

It knows no SMTP.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from gatepost.config import SocketAddress
from gatepost.errors import GatepostError

BACKLOG = 4096
"""How many connections may wait to be accepted."""
RESERVED_DESCRIPTORS = 1500
"""How many descriptors are kept for DNS (at most 1,000), spool files, next hops and the store."""
KEPT_HEAP = 8 * 1024 * 1024
"""Octets of freed memory that the C library keeps at hand."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""The names of mallopt(3) for these settings of the GNU C library."""


def listen(address: SocketAddress) -> socket.socket:
    """Return a TCP socket bound to ``address``. Raises ``GatepostError`` with a sentence if that fails.

    The protocol is named because the loop sets TCP_NODELAY only on sockets that say that they are TCP. Without it each
    batch of pipelined replies would wait 40 ms for the client's delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A restart must not wait until the connections of the server before it have left TIME_WAIT.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # else it would take the port on IPv4 as well
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise GatepostError(f"cannot listen on {address}: {error.strerror}") from error
    bound.setblocking(False)
    return bound


def raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors to the hard one. Return the number of clients that it allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most - RESERVED_DESCRIPTORS, most // 2)


def keep_freed_memory() -> None:
    """Let the GNU C library keep some freed memory, instead of giving each block of a message back to the system.

    It does that while the process is small, and fetches the memory again for the next block: a page fault for each
    4 KiB, which doubles the CPU time of a large message. Other C libraries are left as they are. mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_HEAP)
        mallopt(M_TRIM_THRESHOLD, KEPT_HEAP)


def is_loopback(address: SocketAddress) -> bool:
    """Return True when only this machine can connect to ``address``."""
    return address.host == "localhost" or address.host == "::1" or address.host.startswith("127.")


def account_of(user: str) -> pwd.struct_passwd:
    """Return the account named ``user``. Raises ``GatepostError`` if this machine has no such account."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise GatepostError(f"there is no account {user!r} on this machine") from None


def drop_privileges(user: str) -> None:
    """Become ``user``, irrevocably. Raises ``GatepostError`` if there is no such account or we may not."""
    account = account_of(user)
    if os.getuid() == account.pw_uid:
        return
    if os.getuid() != 0:
        raise GatepostError(f"only root can become {user!r}; start gatepost as root or as {user!r}")
    # Groups first, since only root may change them; all three ids of each kind, so that there is no way back.
    os.setgroups(os.getgrouplist(user, account.pw_gid))
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    os.environ.update(HOME=account.pw_dir, USER=user, LOGNAME=user)


@contextmanager
def temporarily(user: str) -> Iterator[None]:
    """Open files as ``user`` would, then be root again. Only for root, and only while nothing else runs.

    The kernel judges by the effective ids, and leaves the way back to the real one. Raises ``GatepostError`` if there
    is no such account.
    """
    account, groups = account_of(user), os.getgroups()
    try:
        os.setgroups(os.getgrouplist(user, account.pw_gid))
        os.setegid(account.pw_gid)
        os.seteuid(account.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def make_folder(folder: os.PathLike[str], user: str | None) -> None:
    """Make a folder of mode 0700 that belongs to ``user``. Raises ``GatepostError`` if that fails.

    A folder that exists stays as it is: a configuration that names /tmp must not change the owner of /tmp. One that
    everybody may write to is refused: others could put files or links of their own in the place of ours.
    """
    owner = account_of(user) if user is not None and os.getuid() == 0 else None
    try:
        os.makedirs(folder, mode=0o700)
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise GatepostError(f"{os.fspath(folder)} is not a folder") from None
        if os.stat(folder).st_mode & stat.S_IWOTH:
            raise GatepostError(
                f"every account of this machine may write to {os.fspath(folder)}, so nothing in it is safe: "
                "use a folder of gatepost's own, or chmod o-w"
            ) from None
    except OSError as error:
        raise GatepostError(f"cannot make the folder {os.fspath(folder)}: {error.strerror}") from error
