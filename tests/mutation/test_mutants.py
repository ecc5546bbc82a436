"""The faults that are planted in a module: small, valid, and the same each time."""

from __future__ import annotations

import pytest

from tests.mutation.__main__ import sample
from tests.mutation.mutants import is_valid, mutants_of


def planted(source: str) -> set[str]:
    """Return what becomes of a source of one function, a line for each mutant."""
    return {mutant.apply(source) for mutant in mutants_of("a.py", source) if is_valid(mutant, source)}


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("return a < b", {"return a <= b", "return None"}),
        ("return a is not None", {"return a is None", "return None"}),
        ("return (a) not in b", {"return (a) in b", "return None"}),
        ("return a and b", {"return a or b", "return None"}),
        ("return", set()),
        ("a.b = True", {"pass", "a.b = False"}),
        ("a = 30", {"a = 31"}),
        ("a = b if c else d", {"a = b if (not (c)) else d"}),
        ("a = b'x' + c", set()),
        ("a += 1", {"pass", "a += 2"}),
        ("a.b('ü', c - d)", {"pass", "a.b('ü', c + d)"}),
        ("assert a == b", set()),
        ("a: int = 1", {"a: int = 2"}),
    ],
)
def test_each_line_has_the_faults_that_a_person_might_make(line: str, becomes: set[str]) -> None:
    def source(statement: str) -> str:
        return f'def f(a, b, c, d):\n    """Ü: a < b."""\n    {statement}\n'

    assert planted(source(line)) == {source(other) for other in becomes}


def test_a_fault_is_named_by_its_place_so_that_the_name_outlives_other_changes() -> None:
    source = "class A:\n    async def b(self, c):\n        if c:\n            return 1\n"
    named = mutants_of("a.py", source)[0].name
    assert named == "a.py: A.b: c → (not (c)) in if c:"
    assert mutants_of("a.py", "import os\n" + source)[0].name == named


def test_a_sample_is_the_same_each_time_and_has_the_same_share_of_each_module() -> None:
    few, more, others = (sample(count, seed, "gate/") for count, seed in ((100, 1), (200, 1), (100, 2)))
    assert few == sample(100, 1, "gate/") != others
    assert 1.8 * len(few) <= len(more) <= 2.2 * len(few)
    assert {mutant.path for mutant in few} <= {mutant.path for mutant in more}
    assert sorted(sample(100, 1, "gate/score.py"), key=str) == sorted(
        (mutant for mutant in few if mutant.path.endswith("gate/score.py")), key=str
    )
