"""Listening sockets, file descriptors and privileges: what a server asks of the operating system.

Knows no SMTP. RFC 5321 says nothing of this; Unix does.
"""

from __future__ import annotations

import os
import pwd
import resource
import socket

from gatepost.config import SocketAddress
from gatepost.errors import GatepostError

BACKLOG = 4096
"""Connections that may wait to be accepted."""
RESERVED_DESCRIPTORS = 1500
"""Descriptors that are not for clients: DNS (at most 1,000), spool files, next hops, the store."""


def listen(address: SocketAddress) -> socket.socket:
    """A bound TCP socket. Raises ``GatepostError`` with a sentence when the address cannot be had.

    The protocol is named, since the loop sets TCP_NODELAY only on sockets that say that they are TCP: without it each
    batch of pipelined replies waits 40 ms for the client's delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address.host, address.port))
    except OSError as error:
        made.close()
        raise GatepostError(f"cannot listen on {address}: {error.strerror}") from error
    made.setblocking(False)
    return made


def raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors to the hard one. Returns how many clients that holds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1_048_576 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most - RESERVED_DESCRIPTORS, most // 2)


def is_loopback(address: SocketAddress) -> bool:
    """True when only this machine can connect there."""
    return address.host == "localhost" or address.host == "::1" or address.host.startswith("127.")


def account_of(user: str) -> pwd.struct_passwd:
    """The account of that name. Raises ``GatepostError`` when this machine has none."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise GatepostError(f"there is no account {user!r} on this machine") from None


def drop_privileges(user: str) -> None:
    """Become ``user``, for good. Raises ``GatepostError`` when there is no such account or we may not."""
    account = account_of(user)
    if os.getuid() == account.pw_uid:
        return
    if os.getuid() != 0:
        raise GatepostError(f"only root can become {user!r}; start as root or as {user!r}")
    os.setgroups(os.getgrouplist(user, account.pw_gid))
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    os.environ.update(HOME=account.pw_dir, USER=user, LOGNAME=user)


def make_folder(folder: os.PathLike[str], user: str | None) -> None:
    """Make a folder of the server's own, mode 0700, belonging to ``user``. Raises ``GatepostError``.

    One that is there stays as it is: whoever names /tmp in a configuration does not mean to give it away.
    """
    owner = account_of(user) if user is not None and os.getuid() == 0 else None
    try:
        os.makedirs(folder, mode=0o700)
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
    except FileExistsError:
        if not os.path.isdir(folder):
            raise GatepostError(f"{os.fspath(folder)} is no folder") from None
    except OSError as error:
        raise GatepostError(f"cannot make the folder {os.fspath(folder)}: {error.strerror}") from error
