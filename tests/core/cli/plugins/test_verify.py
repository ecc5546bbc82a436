"""``gatepost plugins verify`` runs the conformance kit for one plugin and says what is wrong with it."""

from __future__ import annotations

import json

from tests.core.cli.running import SOUND, Folder, facts, run

MINE = """
from gatepost import Options, WatchedFile, deny, hookimpl


class MineOptions(Options):
    senders: frozenset[str]
    \"\"\"Whom to refuse.\"\"\"
    more: WatchedFile | None = None
    \"\"\"More of them.\"\"\"


class Mine:
    Options = MineOptions

    def __init__(self, options):
        self.senders = options.senders

    @hookimpl
    def mail(self, sender):
        return deny("no") if str(sender) in self.senders else None
"""
WRONG = """
from gatepost import hookimpl


class Mine:
    @hookimpl
    def mail(self):
        return True
"""
LEAVE = """
        import asyncio

        async def leave():
            raise SystemExit(0)

        await asyncio.create_task(leave())
"""
TABLE = '[plugins.mine]\nuse = "mine.py"\n'


def outcomes(*arguments: str) -> dict[str, str]:
    return {each["check"]: each["outcome"] for each in facts("plugins", "verify", *arguments)["checks"]}


def test_an_installed_plugin_that_is_right_is_status_0(folder: Folder) -> None:
    result = run("plugins", "verify", "discard")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["check", "result"]
    assert lines[1].split(maxsplit=2)[:2] == ["hooks", "pass"]
    assert any(line.split() == ["options", "skip", "it", "takes", "no", "options"] for line in lines)
    assert lines[-1].startswith("discard (gatepost ") and "passed, " in lines[-1] and "failed" not in lines[-1]


def test_the_options_are_those_of_the_configuration(folder: Folder) -> None:
    path = folder.write(SOUND + TABLE + 'senders = ["a@example.com"]\nmode = "observe"\n', mine=MINE)
    assert set(outcomes("mine", "--config", path).values()) == {"pass", "skip"}


def test_a_plugin_that_is_wrong_is_status_1_and_the_table_says_why(folder: Folder) -> None:
    path = folder.write(SOUND + TABLE, mine=WRONG)
    result = run("plugins", "verify", "mine", "--config", path)
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("answers")]
    assert line.split(maxsplit=2)[1:] == [
        "fail",
        "it returned bool, which mail does not take (mail, at MAIL FROM:<a@example.com>)",
    ]
    assert "mine.py): 1 failed, " in result.stdout


def test_a_misspelt_declaration_is_status_1_and_named_with_the_meant_one(folder: Folder) -> None:
    misspelt = WRONG.replace("class Mine:", "class Mine:\n    skip_trused = True")
    result = run("plugins", "verify", "mine", "--config", folder.write(SOUND + TABLE, mine=misspelt))
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("declarations")]
    assert line.split(maxsplit=1)[1].startswith("fail") and "did you mean skip_trusted?" in line
    assert ": 1 failed, " in result.stdout


def test_a_plugin_that_ends_the_process_is_status_1(folder: Folder) -> None:
    exiting = WRONG.replace("    def mail(self):\n        return True", "    async def mail(self):\n        " + LEAVE)
    result = run("plugins", "verify", "mine", "--config", folder.write(SOUND + TABLE, mine=exiting))
    assert result.exit_code == 1
    assert "mine.py) ends the process: SystemExit: 0" in result.stderr


def test_json_has_every_finding(folder: Folder) -> None:
    path = folder.write(SOUND + TABLE, mine=WRONG)
    result = run("plugins", "verify", "mine", "--config", path, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["name"], found["passed"]) == ("mine", False) and found["origin"].endswith("mine.py")
    (failed,) = [each for each in found["checks"] if each["outcome"] == "fail"]
    assert failed["check"] == "answers" and len(failed["findings"]) == 2  # the null sender too


def test_options_may_be_given_as_toml(folder: Folder) -> None:
    path = folder.write(SOUND + TABLE, mine=MINE)
    assert outcomes("mine", "--config", path, "--options", 'senders = ["x@example.com"]')["start"] == "pass"


def test_options_may_be_given_as_a_file_to_which_paths_in_it_are_relative(folder: Folder) -> None:
    path = folder.write(SOUND + TABLE, mine=MINE)
    (folder.path / "trial").mkdir()
    (folder.path / "trial" / "mine.toml").write_text('senders = ["x@example.com"]\nmore = "more.txt"\n')
    (folder.path / "trial" / "more.txt").write_text("y@example.com\n")
    assert outcomes("mine", "--config", path, "--options", "trial/mine.toml")["start"] == "pass"


def test_wrong_options_are_status_78_with_the_place(folder: Folder) -> None:
    path = folder.write(SOUND + TABLE + "senders = 3\n", mine=MINE)
    result = run("plugins", "verify", "mine", "--config", path)
    assert result.exit_code == 78 and "plugins.mine.senders: " in result.stderr and f"{path}:" in result.stderr
    for given, words in (
        ("senders = ", "--options: this is neither a file nor TOML: "),
        ("sender = 1", "plugins.mine.sender: "),
        ("", "plugins.mine.senders: "),
    ):
        result = run("plugins", "verify", "mine", "--config", path, "--options", given)
        assert result.exit_code == 78 and words in result.stderr, given


def test_options_for_one_that_takes_none_are_status_78(folder: Folder) -> None:
    result = run("plugins", "verify", "discard", "--options", "loud = true")
    assert result.exit_code == 78
    assert "plugins.discard.loud: it takes no options" in result.stderr


def test_a_plugin_that_does_not_exist_is_status_1(folder: Folder) -> None:
    result = run("plugins", "verify", "nothing")
    assert result.exit_code == 1 and "there is no plugin nothing" in result.stderr


DELIVERS = """
from gatepost import Options, accept, hookimpl


class MineOptions(Options):
    path: str
    \"\"\"Where to.\"\"\"


class Mine:
    Options = MineOptions
    grants = "delivery"

    def __init__(self, options):
        self.path = options.path

    @hookimpl
    def queue(self):
        with open(self.path, "a") as file:
            file.write("x")
        return accept()
"""


def test_a_plugin_that_delivers_by_itself_delivers_nothing_into_the_real_place(folder: Folder) -> None:
    real, other = folder.path / "real", folder.path / "other"
    path = folder.write(f'{SOUND}{TABLE}path = "{real}"\n', mine=DELIVERS)
    result = run("plugins", "verify", "mine", "--config", path)
    assert result.exit_code == 2 and "--options" in result.output and "--deliver" in result.output
    assert not real.exists()
    assert run("plugins", "verify", "mine", "--config", path, "--options", f'path = "{other}"').exit_code == 0
    assert other.exists() and not real.exists()
    assert run("plugins", "verify", "mine", "--config", path, "--deliver").exit_code == 0
    assert real.exists()
