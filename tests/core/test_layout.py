"""The layout of the core: what the package says of itself is what lies in its folder, in the order of the contract."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import gatepost

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "gatepost"
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
PACKAGES = sorted(path for path in (ROOT / "core").rglob("__init__.py"))
HOLD_CODE = {"gatepost/__init__.py", "gatepost/cli/__init__.py"}
"""The first loads public names when they are used, the second has ``main``."""


def described() -> list[str]:
    """The names in the comment on the layout in ``gatepost/__init__.py``, in its order."""
    return re.findall(r"^#   ([a-z_]+/?) ", (CORE / "__init__.py").read_text(), re.MULTILINE)


def test_the_comment_on_the_layout_names_every_module_and_package() -> None:
    packages = {f"{path.name}/" for path in CORE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in CORE.glob("*.py")} - {"__init__"}
    assert set(described()) == packages | modules
    assert len(described()) == len(set(described()))


def test_the_comment_on_the_layout_has_the_order_of_the_contract() -> None:
    layers = [set(re.split(r"\s*[|:]\s*", layer)) for layer in CONTRACTS[0]["layers"]]
    floors = [
        next(floor for floor, names in enumerate(layers) if name.removesuffix("/") in names) for name in described()
    ]
    assert floors == sorted(floors)


def test_few_modules_lie_beside_the_packages() -> None:
    assert len([name for name in described() if not name.endswith("/")]) <= 12


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: str(path.relative_to(ROOT / "core")))
def test_a_package_only_re_exports(path: Path) -> None:
    if str(path.relative_to(ROOT / "core")) in HOLD_CODE:
        return
    for node in ast.parse(path.read_text()).body:
        is_all = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert is_all or is_docstring or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


def test_no_test_file_is_longer_than_500_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert [str(path) for path, length in lengths.items() if length > 500] == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "core").rglob("test_*.py")), ids=lambda path: path.stem)
def test_tests_lie_in_a_folder_that_is_called_like_the_package(path: Path) -> None:
    folder = path.parent.relative_to(ROOT / "tests" / "core")
    assert (CORE / folder).is_dir()


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(hasattr(gatepost, name) for name in gatepost.__all__)
    assert set(gatepost.__all__) <= set(dir(gatepost))
    assert set(gatepost._HOMES) == set(gatepost.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        gatepost.nonesuch  # type: ignore[attr-defined]  # noqa: B018
