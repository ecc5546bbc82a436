"""Postfix (Debian's package): smtpd, which takes a message into a queue, and a queue manager that discards it.

It is a real mail server: mail is on disk before it is accepted. It does not look up names, and it has no option to log
less. *As run*, the queue manager delivers to an smtp-sink with smtp(8). If clients are to be held, postscreen does it,
a single process in front of smtpd, which sends "220-" at once and "220" at the end of the delay. Postfix needs root,
because it starts as root and drops its privileges itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

from tests.bench.clients import DOMAIN
from tests.bench.servers import smtp_sink
from tests.bench.servers.running import (
    HOST,
    HOSTNAME,
    MESSAGE_LIMIT,
    SILENCE_LIMIT,
    Command,
    Place,
    Server,
    not_installed,
    program,
)

DAEMONS = "/usr/lib/postfix/sbin"

MAIN_CF = {
    "compatibility_level": "3.6",
    "command_directory": "/usr/sbin",
    "daemon_directory": DAEMONS,
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "myhostname": HOSTNAME,
    "mydestination": "",
    "mynetworks": "",
    "local_recipient_maps": "",
    "alias_maps": "",
    "alias_database": "",
    "relay_domains": DOMAIN,
    "relay_transport": "discard:",
    "default_transport": "discard:",
    "inet_interfaces": HOST,
    "inet_protocols": "ipv4",
    "smtpd_peername_lookup": "no",
    "disable_dns_lookups": "yes",
    "smtpd_relay_restrictions": "reject_unauth_destination",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_timeout": f"{SILENCE_LIMIT}s",
    "message_size_limit": str(MESSAGE_LIMIT),
    "in_flow_delay": "0",
    "maillog_file_prefixes": "/",
    "postscreen_access_list": "",
    "postscreen_dnsbl_sites": "",
    "postscreen_pre_queue_limit": "30000",
    "postscreen_client_connection_count_limit": "30000",
    "postscreen_cache_map": "btree:$data_directory/postscreen_cache",
}
DOOR = "inet n - n - - smtpd\n"
SCREENED_DOOR = "inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n"
SERVICES = """\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
smtp unix - - n - - smtp
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
dnsblog unix - - n - 0 dnsblog
postlog unix-dgram n - n - 1 postlogd
"""


def postfix() -> Server:
    """Return Postfix."""
    return Server("postfix", _lay_out, smtp_sink.postfix_version, missing, holds_clients=True)


def as_run() -> Server:
    """Return Postfix as people run it behind a filter: it queues each message and sends it on to an smtp-sink."""
    return Server("postfix-as-run", partial(_lay_out, forwarding=True), smtp_sink.postfix_version, missing)


def missing() -> str | None:
    """Return the reason why Postfix cannot run here, or None if it can."""
    return not_installed("postfix", "postfix") or (None if os.geteuid() == 0 else "Postfix can only be started by root")


def _lay_out(place: Place, *, forwarding: bool = False) -> Command:
    etc, queue, data = (place.folder / name for name in ("etc", "queue", "data"))
    for folder in (etc, queue, data):
        folder.mkdir()
    shutil.chown(data, "postfix")
    settings = dict(_settings(place))
    if forwarding:
        host, _, port = smtp_sink.beside(place).rpartition(":")
        settings["relay_transport"] = f"smtp:[{host}]:{port}"
    (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    door = DOOR if place.greeting_delay is None else SCREENED_DOOR
    (etc / "master.cf").write_text(f"{HOST}:{place.port} {door}{SERVICES}")
    # This makes the folders of the queue, as Postfix's own start script does.
    subprocess.run([program("postfix"), "-c", str(etc), "check"], check=True, capture_output=True)
    return Command([f"{DAEMONS}/master", "-c", str(etc), "-s"], begins_session=True)


def _settings(place: Place) -> Iterator[tuple[str, str]]:
    yield from MAIN_CF.items()
    yield "queue_directory", str(place.folder / "queue")
    yield "data_directory", str(place.folder / "data")
    yield "maillog_file", str(place.folder / "maillog")
    if place.greeting_delay is not None:
        yield "postscreen_greet_wait", f"{round(place.greeting_delay)}s"
