"""A stranger's package that is broken stops the start with its name, and nothing else: looking still works."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.core.cli.running import SOUND, Folder
from tests.core.cli.test_serve import GATEPOST

RAISES = 'raise RuntimeError("broken at import")'
GOOD = "from gatepost import hookimpl\nclass Plugin:\n    @hookimpl\n    def connect(self): ...\n"


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port that somebody has: who tries to bind it has not looked at the plugins before."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held.getsockname()[1]


def installed(folder: Folder, plugin: str, body: str, *lines: str) -> dict[str, str]:
    """Install ``gatepost-strange`` 1.5, which offers ``plugin``; gives the environment that finds it."""
    facts = folder.path / "gatepost_strange-1.5.dist-info"
    facts.mkdir()
    head = ("Metadata-Version: 2.4", "Name: gatepost-strange", "Version: 1.5")
    (facts / "METADATA").write_text("\n".join((*head, *lines, "")))
    (facts / "entry_points.txt").write_text(f"[gatepost.plugins]\n{plugin} = gatepost_strange:Plugin\n")
    (folder.path / "gatepost_strange.py").write_text(body)
    return {**os.environ, "PYTHONPATH": str(folder.path)}


def gatepost(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*GATEPOST, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done


CASES = {
    "raises at import": ("strange", RAISES, (), "strange of gatepost-strange 1.5 cannot be imported: RuntimeError"),
    "a name of ours": ("discard", GOOD, (), "discard is offered by two packages, gatepost "),
    "a newer gatepost": (
        "strange",
        GOOD,
        ("Requires-Dist: gatepost>=99",),
        "strange of gatepost-strange 1.5 is made for gatepost >=99, and this is ",
    ),
    "an unknown hook": (
        "strange",
        GOOD.replace("connect", "conect"),
        (),
        "gatepost-strange 1.5: it implements 'conect', which is not a phase; did you mean connect?",
    ),
    "a misspelt declaration": (
        "strange",
        GOOD.replace("Plugin:\n", "Plugin:\n    skip_trused = True\n"),
        (),
        "gatepost-strange 1.5: it declares skip_trused, which means nothing to gatepost; did you mean skip_trusted?",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_stops_the_start_before_anything_is_bound_and_looking_still_works(
    case: str, folder: Folder, taken: int
) -> None:
    plugin, body, lines, sentence = CASES[case]
    environ = installed(folder, plugin, body, *lines)
    order = f'"recipients", "{plugin}"' if plugin == "discard" else f'"{plugin}", "recipients", "discard"'
    path = folder.write(SOUND.replace("2525", str(taken)).replace('"recipients", "discard"', order))
    served = gatepost(environ, "serve", "--config", path)
    assert served.returncode == 78
    assert sentence in served.stderr
    checked = gatepost(environ, "check", "--config", path)
    assert checked.returncode == 78
    assert sentence in checked.stdout
    listed = gatepost(environ, "plugins", "--config", path)
    assert listed.returncode == 0
    assert "gatepost-strange" in listed.stdout and "cannot be loaded: see gatepost check" in listed.stdout
    assert gatepost(environ, "--help").returncode == 0


def test_it_does_no_harm_while_no_order_names_it(folder: Folder) -> None:
    environ = installed(folder, "strange", RAISES)
    checked = gatepost(environ, "check", "--config", folder.write())
    assert checked.returncode == 0
    assert "0 errors" in checked.stdout
