"""The tutorial works, command by command, in a new environment with gatepost from a wheel.

Its console blocks are typed into a shell in an empty folder. Each command must print what the page shows, where ``…``
stands for anything. Its blocks with a caption are saved as the file of that name, or applied to it if they are diffs.

Nothing is downloaded: the new environment has links to the packages in the environment of this test, except gatepost.
The repository is not on any path.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs.manual import ROOT
from tests.patience import PROGRAM_PATIENCE
from tests.peers.ports import reserved_port

PAGE = ROOT / "docs/authors/tutorial.md"
BLOCK = re.compile(
    r"^```(?:console|\{code-block\} (?P<kind>\w+)\n:caption: (?P<file>\S+)\n)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
IDENTIFIER = re.compile(r"\b3[0-9a-hjkmnp-tv-z]{9}\b")
PREPARED = "python3 -m venv .venv"
"""A command that the fixture has already executed in its own way: with links, and without pip, which may be too old."""
PORT = "2525"


@dataclass(frozen=True, slots=True)
class Typed:
    """A command and the output that the page shows."""

    command: str
    shown: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A file, or a change to one."""

    file: str
    text: str
    is_change: bool

    def save(self, file: Path, text: str) -> None:
        """Write ``text`` into the file, or apply it as a change."""
        file.write_text(changed(file.read_text(encoding="utf-8"), text) if self.is_change else text, encoding="utf-8")


def steps() -> Iterator[Typed | Saved]:
    """Yield the steps of the page in their order."""
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        if block["file"]:
            yield Saved(block["file"], block["text"], block["kind"] == "diff")
        else:
            for command in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
                typed, _, shown = command.partition("\n")
                yield Typed(typed, shown)


@dataclass
class Reader:
    """Somebody who follows the page in a shell, with a port and ids in place of those on the page."""

    shell: asyncio.subprocess.Process
    folder: Path
    known: dict[str, str] = field(default_factory=dict)
    """Text of the page and its replacement."""

    async def follow(self, step: Typed | Saved) -> None:
        """Execute the step and check the output."""
        if isinstance(step, Saved):
            await self._save(step)
        elif step.command != PREPARED:
            printed, status = await self.type(self._here(step.command))
            assert self._fits(step.shown, printed), f"$ {step.command}\n{printed}\n--- the page shows:\n{step.shown}"
            assert step.shown or status == 0, f"$ {step.command} fails"
            if step.command.endswith("&"):
                await self.type("until grep -qs started gate.log; do sleep 0.05; done")
            if step.command == "kill %1":
                await self.type("wait")

    async def type(self, command: str) -> tuple[str, int]:
        """Type a command. Returns its output and its exit status."""
        assert self.shell.stdin is not None and self.shell.stdout is not None
        self.shell.stdin.write(f"{command}\nprintf '\\0%s\\0' $?\n".encode())
        printed = await asyncio.wait_for(self.shell.stdout.readuntil(b"\0"), PROGRAM_PATIENCE)
        status = await self.shell.stdout.readuntil(b"\0")
        return printed[:-1].decode(), int(status[:-1])

    async def _save(self, step: Saved) -> None:
        place = (await self.type("pwd"))[0].strip()
        step.save(Path(place, step.file), self._here(step.text))

    def _here(self, text: str) -> str:
        for there, here in self.known.items():
            text = text.replace(there, here)
        return text

    def _fits(self, shown: str, printed: str) -> bool:
        """Return whether the page shows this output, and remember the ids in it."""
        ids = [each for each in IDENTIFIER.findall(shown) if each not in self.known]
        pattern = re.escape(self._here(shown))
        for number, each in enumerate(ids):
            pattern = pattern.replace(each, f"(?P<id{number}>[0-9a-z]{{10}})")
        found = re.fullmatch(pattern.replace("…", ".*"), printed, re.DOTALL)
        if found:
            self.known |= {each: found[f"id{number}"] for number, each in enumerate(ids)}
        return found is not None


def changed(text: str, change: str) -> str:
    """Return ``text`` with a change in the form of a diff."""
    lines = [(line[:1], line[1:]) for line in change.splitlines()]
    before = "\n".join(line for mark, line in lines if mark != "+")
    assert text.count(before) == 1, f"the diff does not match exactly one place: {before}"
    return text.replace(before, "\n".join(line for mark, line in lines if mark != "-"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder), str(ROOT))
    return folder


def pip(python: str, *arguments: str) -> None:
    """Run pip and check that it succeeds."""
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def is_plugin_of_pytest(entry: Path) -> bool:
    """Return True for the facts of a package that pytest would load, except those that the page installs.

    A reader has none of them, and one may say a line of its own in each run, as pytest-randomly does.
    """
    declared = entry / "entry_points.txt"
    return declared.is_file() and "[pytest11]" in declared.read_text() and not entry.name.startswith("pytest_asyncio")


def test_pytest_plugins_of_this_environment_are_not_those_of_the_reader(tmp_path: Path) -> None:
    for name, group in {"pytest_randomly-3.16.0": "pytest11", "pytest_asyncio-1.5.0": "pytest11", "x-1": "y"}.items():
        (tmp_path / f"{name}.dist-info").mkdir()
        (tmp_path / f"{name}.dist-info/entry_points.txt").write_text(f"[{group}]\nname = module\n")
    left_out = [entry.name for entry in tmp_path.iterdir() if is_plugin_of_pytest(entry)]
    assert left_out == ["pytest_randomly-3.16.0.dist-info"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an empty folder with a new environment that has all dependencies of gatepost but not gatepost itself."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "page/.venv"], check=True)
    others = tmp_path / "others"
    others.mkdir()
    for entry in {*Path(sysconfig.get_path("purelib")).iterdir(), *Path(sysconfig.get_path("platlib")).iterdir()}:
        ours = entry.name.startswith(("gatepost", "_gatepost", "__editable__"))
        if entry.suffix != ".pth" and not ours and not is_plugin_of_pytest(entry):
            (others / entry.name).symlink_to(entry)
    (runtime,) = (tmp_path / "page/.venv/lib").glob("python*/site-packages")
    (runtime / "others.pth").write_text(f"{others}\n")
    programs = tmp_path / "page/.venv/bin"
    for name, module in {"pytest": "pytest", "mypy": "mypy"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{programs}/python" -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    (programs / "ruff").symlink_to(Path(sys.executable).with_name("ruff"))
    return tmp_path / "page"


def environment(folder: Path, wheel: Path) -> dict[str, str]:
    """Return the shell's environment, in which pip finds the wheel and nothing else."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL", "TMPDIR"}}
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return kept | offline | {"PIP_FIND_LINKS": str(wheel), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
async def reader(folder: Path, wheel: Path) -> AsyncIterator[Reader]:
    """Yield a reader with a shell in the folder; the shell and all that it has started end with the test."""
    with reserved_port() as port:
        shell = await asyncio.create_subprocess_exec(
            "bash",
            cwd=folder,
            env=environment(folder, wheel),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        yield Reader(shell, folder, {PORT: str(port)})
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        await shell.communicate()


async def test_the_tutorial_can_be_followed(reader: Reader, folder: Path) -> None:
    for step in steps():
        await reader.follow(step)
    where, _ = await reader.type("python -c 'import gatepost; print(gatepost.__file__)'")
    assert Path(where.strip()).is_relative_to(folder)


def test_all_steps_of_the_tutorial_are_found() -> None:
    followed = list(steps())
    typed = [step.command for step in followed if isinstance(step, Typed)]
    assert any(command.startswith("gatepost plugins new") for command in typed)
    assert sum(isinstance(step, Saved) for step in followed) == PAGE.read_text(encoding="utf-8").count(":caption:")
