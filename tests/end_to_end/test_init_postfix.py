"""``gatepost init --postfix`` writes both sides of a gate in front of Postfix, and they work with the real one."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

from tests.end_to_end.client import connected, message, send, send_until_not
from tests.end_to_end.gate import Gate, run
from tests.peers.postfix import DOMAIN, UNKNOWN, Postfix

INBOX = f"inbox@{DOMAIN}"


def variables(postfix: Postfix, state: Path) -> dict[str, str]:
    """Return what differs from a machine of its own: ports, the state folder, the account, and shorter waits."""
    return {
        "GATEPOST__LISTEN__SMTP__BIND": json.dumps(["127.0.0.1:0"]),
        "GATEPOST__STATE_DIR": str(state),
        "GATEPOST__USER": "nobody",
        "GATEPOST__PLUGINS__FORWARD__TO": f"smtp://127.0.0.1:{postfix.port}",
        "GATEPOST__PLUGINS__EARLYTALKER__DELAY": "100ms",
        "GATEPOST__PLUGINS__GREYLIST__DELAY": "1s",
    }


async def test_what_init_postfix_writes_runs_on_both_sides(postfix: Postfix) -> None:
    pwd.getpwnam("nobody")
    folder = postfix.folder  # which every account can reach
    done = run("init", "--postfix", str(folder), environ={"MAIL_CONFIG": str(postfix.etc)})
    assert done.returncode == 0, done.stderr
    postfix.use_listener((folder / "postfix-master.cf").read_text())
    config, environ = folder / "gatepost.toml", variables(postfix, folder / "state")
    assert f'domains = ["{DOMAIN}"]' in config.read_text() and 'hostname = "mail.example.test"' in config.read_text()

    checked = run("check", "--config", str(config), environ=environ)
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, f"{config}: 0 errors, 0 warnings")
    with Gate(folder, config, environ) as gate:
        mail = b"From: bob\r\nSubject: both sides\r\n" + message("<both@sides.example.org>")
        assert (await send(gate.port, INBOX, mail)).startswith(b"451 4.7.1 greylisted")
        assert (await send_until_not(b"451 4.7.1 greylisted", gate.port, INBOX, mail)).startswith(b"250 2.0.0")
        assert (await send(gate.port, UNKNOWN, mail))[:3] in (b"451", b"550")
        async with connected(gate.port) as client:
            assert b"SIZE 62898176" in await client.greet()  # what Postfix takes, less what we add
            (reply,) = await client.envelope(["a@elsewhere.example"])
            assert reply.startswith(b"550 5.7.1")
    postfix.deliver()
    (content,) = postfix.delivered()
    assert b"\nFrom: bob\nSubject: both sides\n" in content
