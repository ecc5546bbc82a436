"""qpsmtpd's prefork server (Debian's package), in Perl, from which gatepost has its idea: a process for each client.

It runs ``rcpt_ok`` and a plugin that takes mail and discards it. It looks up the name of each client, which cannot be
turned off, so it queries the same rbldnsd as gatepost's default chain. It requires an account to run as.
"""

from __future__ import annotations

import functools
import getpass
import os
import shutil
import subprocess

from tests.bench.clients import DOMAIN
from tests.bench.servers import dns
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

CHILDREN = 25
"""Clients at a time; all processes exist from the start."""
PLUGINS = "/usr/share/qpsmtpd/plugins"
PLUGIN = """\
sub hook_queue { return (OK, "discarded") }

sub register {
    Net::DNS::Resolver->new;  # the first one reads resolv.conf, which would override what is set before
    Net::DNS::Resolver->nameservers("%s");
    Net::DNS::Resolver->port(%s);
}
"""
"""Discards mail and sets the name server, in the code because taint mode forbids to take it from a file or variable."""


def qpsmtpd() -> Server:
    """Return qpsmtpd."""
    return Server("qpsmtpd", _lay_out, version, missing)


def missing() -> str | None:
    """Return the reason why qpsmtpd cannot run here, or None if it can."""
    return not_installed("qpsmtpd-prefork", "qpsmtpd") or dns.missing()


@functools.cache
def version() -> str:
    """Return the versions of Debian's package, since the program's own is always 1.0, and of Perl."""
    commands = (["dpkg-query", "-W", "-f", "${Version}", "qpsmtpd"], ["perl", "-e", 'printf "%vd", $^V'])
    own, perl = (subprocess.run(each, capture_output=True, text=True, check=True).stdout for each in commands)
    return f"qpsmtpd {own} prefork, Perl {perl}"


def _lay_out(place: Place) -> Command:
    config, plugins, spool = (place.folder / name for name in ("config", "plugins", "spool"))
    for folder in (config, plugins, spool):
        folder.mkdir()
    (plugins / "bench_discard").write_text(PLUGIN % tuple(dns.lists(place, 95).split(":")))
    spool.chmod(0o700)
    user = getpass.getuser()
    if os.geteuid() == 0:
        user = "qpsmtpd"
        shutil.chown(spool, user)
    files = {
        "plugins": "rcpt_ok\nbench_discard\n",
        "plugin_dirs": f"{PLUGINS}\n{plugins}\n",
        "rcpthosts": f"{DOMAIN}\n",
        "me": f"{HOSTNAME}\n",
        "logging": "logging/devnull\n",
        "loglevel": "1\n",
        "databytes": f"{MESSAGE_LIMIT}\n",
        "timeout": f"{SILENCE_LIMIT}\n",
        "spool_dir": f"{spool}\n",
    }
    for name, text in files.items():
        (config / name).write_text(text)
    listening = ["--listen-address", f"{HOST}:{place.port}", "--port", str(place.port), "--user", user]
    children = ["--children", str(CHILDREN), "--idle-children", str(CHILDREN), "--max-from-ip", "0"]
    arguments = [program("qpsmtpd-prefork"), *listening, *children]
    return Command(arguments, {"QPSMTPD_CONFIG": str(config)}, begins_session=True)
