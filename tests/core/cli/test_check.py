"""``gatepost check`` names every mistake at once with its line, and lists grants and warnings."""

from __future__ import annotations

from typing import Any

import pluggy
import pytest

from gatepost.hookspecs import PROJECT, Hookspecs
from tests.core.cli.running import LISTEN, SOUND, Folder, facts, run
from tests.core.rehearsal.policies import ORDER, errors, granting, policy


def test_a_sound_configuration_is_status_0_and_names_who_grants_what(folder: Folder) -> None:
    path = folder.write()
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert "delivery    discard\n" in result.stdout and "recipients  recipients\n" in result.stdout
    said = facts("check", "--config", path)
    assert (said["errors"], said["warnings"]) == ([], [])
    assert said["grants"] == {"recipients": ["recipients"], "discard": ["delivery"]}


def test_the_embedded_default_is_sound(folder: Folder) -> None:
    assert run("check").exit_code == 0


MISTAKES = {
    "unknown key": (f'hostnam = "mx"\n{LISTEN}{ORDER}', 1, "hostnam", "did you mean"),
    "wrong type": (f"{LISTEN}{ORDER}[limits]\nrecipients = true\n", 8, "limits.recipients", "a whole number"),
    "bad duration": (f'{LISTEN}{ORDER}[limits]\nidle = "5 minutes"\n', 8, "limits.idle", "expected a duration"),
    "bad size": (f'{LISTEN}{ORDER}[limits]\nmax_size = "50 MB"\n', 8, "limits.max_size", "expected a size"),
    "bad network": (
        f'{LISTEN}[plugins]\norder = ["access", "recipients", "discard"]\n[plugins.recipients]\n'
        'domains = ["example.org"]\n[plugins.access]\nallow = [{ network = "192.0.2.0/33" }]\n',
        8,
        "plugins.access.allow[0].network",
        "network",
    ),
    "bad port": (f'[listen.smtp]\nbind = ["127.0.0.1:70000"]\n{ORDER}', 2, "listen.smtp.bind[0]", "expected a port"),
    "unknown plugin": (
        f'{LISTEN}[plugins]\norder = ["earlytalkr", "recipients", "discard"]\n'
        '[plugins.recipients]\ndomains = ["example.org"]\n',
        4,
        "plugins.earlytalkr",
        "did you mean earlytalker?",
    ),
    "missing required option": (
        f'{LISTEN}[plugins]\norder = ["recipients", "forward"]\n'
        '[plugins.recipients]\ndomains = ["example.org"]\n[plugins.forward]\npool = 3\n',
        7,
        "plugins.forward.to",
        "required",
    ),
    "observe on a class with grants": (
        f'{LISTEN}{ORDER}[plugins.discard]\nmode = "observe"\n',
        8,
        "plugins.discard.mode",
        "cannot be observed",
    ),
    "no TOML": (f"{LISTEN}this is no TOML\n", 3, "", "this is not TOML"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_each_kind_of_mistake_is_named_with_its_line(folder: Folder, kind: str) -> None:
    text, line, key, words = MISTAKES[kind]
    (error,) = errors(folder, text)
    assert (error["where"], error["line"], error["key"]) == (str(folder.config), line, key)
    assert words in error["message"]


def test_an_unknown_hook_is_named_with_what_was_meant(folder: Folder) -> None:
    plugin = "from gatepost import hookimpl\nclass Mine:\n    @hookimpl\n    def rpct(self):\n        return None\n"
    text = SOUND.replace('"discard"]', '"discard", "mine"]') + '[plugins.mine]\nuse = "mine.py"\n'
    (error,) = errors(folder, text, mine=plugin)
    assert (error["line"], error["key"]) == (9, "plugins.mine")
    assert "'rpct', which is not a phase; did you mean rcpt?" in error["message"]


def test_a_file_with_five_different_mistakes_names_all_five_with_their_lines(folder: Folder) -> None:
    text = (
        'hostname = "mx.example.org"\n'
        '[listen.smtp]\nbind = ["127.0.0.1:70000"]\n'  # 3
        '[limits]\nidle = "soon"\n'  # 5
        '[plugins]\norder = ["recipients", "earlytalkr", "forward"]\n'  # 7
        '[plugins.recipients]\ndomain = ["example.org"]\n'  # 9
        '[plugins.forward]\nto = "smtp://127.0.0.1:25"\nmode = "observe"\n'  # 12
    )
    found = {(error["line"], error["key"]) for error in errors(folder, text)}
    assert found >= {
        (3, "listen.smtp.bind[0]"),
        (5, "limits.idle"),
        (7, "plugins.earlytalkr"),
        (9, "plugins.recipients.domain"),
        (12, "plugins.forward.mode"),
    }


def test_it_works_with_every_plugin_broken(folder: Folder) -> None:
    text = f'{LISTEN}[plugins]\norder = ["a", "b"]\n[plugins.a]\nuse = "a.py"\n[plugins.b]\nuse = "b.py"\n'
    found = errors(folder, text, a="import nowhere", b="raise SystemExit(3)")
    assert [error["key"] for error in found] == ["plugins.a.use", "plugins.b.use"]


def test_a_configuration_without_a_listener_is_an_error(folder: Folder) -> None:
    found = errors(folder, policy("recipients", "discard").replace(LISTEN, ""))
    assert [error["key"] for error in found] == ["listen"]


def test_a_table_that_no_order_names_is_a_warning(folder: Folder) -> None:
    path = folder.write(SOUND + '[plugins.greylist]\ndelay = "1m"\n')
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert "warning" in result.stdout and "plugins.greylist" in result.stdout


def test_a_declaration_that_fails_is_a_mistake(folder: Folder) -> None:
    broken = granting("delivery", "queue", takes_everything="property(lambda self: 1 / 0)")
    (found,) = errors(folder, policy("recipients", "broken"), broken=broken)
    assert found["message"].endswith(
        "broken.py: its takes_everything cannot be read: ZeroDivisionError: division by zero"
    )


class OldSpecs(Hookspecs):
    """The phases of a gatepost that is about to lose one."""

    @pluggy.HookspecMarker(PROJECT)(warn_on_impl=DeprecationWarning("vrfy will not be asked from 9.0 on"))
    def vrfy(self, session: Any, argument: str) -> Any: ...


def test_a_plugin_that_uses_what_goes_away_is_a_warning_in_one_line(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatepost.plugins.load.Hookspecs", OldSpecs)
    mine = "from gatepost import hookimpl\nclass Mine:\n    @hookimpl\n    def vrfy(self): ...\n"
    text = SOUND.replace('order = ["', 'order = ["mine", "') + '[plugins.mine]\nuse = "mine.py"\n'
    path = folder.write(text, mine=mine)
    result = run("check", "--config", path)
    assert result.exit_code == 0
    line = f"warning: {path}:9: plugins.mine: {folder.path}/mine.py: vrfy will not be asked from 9.0 on"
    assert [each for each in result.stdout.splitlines() if "vrfy" in each] == [line]
    assert len(facts("check", "--config", path)["warnings"]) == 1
