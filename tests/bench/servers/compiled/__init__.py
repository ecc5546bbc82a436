"""gatepost from a wheel for this machine, with the path of a message compiled (pyproject.toml lists the modules).

``python -m tests.bench.servers.compiled`` builds this wheel from the checkout, which takes a C compiler and a minute
and a half. It installs the wheel and the dependencies of the tests into ``.bench/gatepost`` in the repository's root,
which is a separate virtual environment. It is built again when the sources or the interpreter have changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.servers.running import ROOT, not_installed

INSTALLED = ROOT / ".bench" / "gatepost"
SCRIPT = INSTALLED / "bin" / "gatepost"
_PYTHON = INSTALLED / "bin" / "python"
_MADE_FROM = INSTALLED / "made-from"

_SOURCES = ("core", "plugins_builtin", "plugin_template", "README.md", "LICENSE", "pyproject.toml")
_SWITCH = "HATCH_BUILD_HOOK_ENABLE_MYPYC"


def missing() -> str | None:
    """Return the reason why no compiled gatepost can run, or None if it can."""
    made_from = _MADE_FROM.read_text() if _MADE_FROM.exists() else ""
    return None if made_from == _digest() else "gatepost is not compiled from these sources: scripts/bench does it"


def version(package: str) -> str:
    """Return the version of a package in its environment."""
    folder = sysconfig.get_path("purelib", vars={"base": str(INSTALLED), "platbase": str(INSTALLED)})
    return next(iter(importlib.metadata.distributions(name=package, path=[folder]))).version


def install() -> None:
    """Build and install it, unless it is up to date. Raises FileNotFoundError or CalledProcessError."""
    if missing() is None:
        return
    if absent := not_installed("cc", "gcc") or _no_headers():
        raise FileNotFoundError(absent)
    print("Compiling gatepost, in about two minutes", file=sys.stderr, flush=True)
    _MADE_FROM.unlink(missing_ok=True)
    _run(sys.executable, "-m", "venv", "--clear", str(INSTALLED))
    _run(str(_PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade", "pip>=25.1")
    with tempfile.TemporaryDirectory() as folder:
        _copy_sources(Path(folder))
        pip = (str(_PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", ".", "--group", "test")
        _run(*pip, cwd=folder, environ={_SWITCH: "1"})
    _MADE_FROM.write_text(_digest())


def _no_headers() -> str | None:
    if Path(sysconfig.get_path("include"), "Python.h").exists():
        return None
    return "the headers of Python are not installed: apt-get install python3-dev"


def _run(*command: str, cwd: str | None = None, environ: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=cwd, env={**os.environ, **(environ or {})}, check=True)


def _copy_sources(folder: Path) -> None:
    for name in _SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)


def _digest() -> str:
    """Return a digest of the interpreter and all sources."""
    digest = hashlib.sha256(sys.version.encode())
    for file in _files():
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    for name in _SOURCES:
        source = ROOT / name
        yield from sorted(filter(_is_source, source.rglob("*"))) if source.is_dir() else (source,)


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts
