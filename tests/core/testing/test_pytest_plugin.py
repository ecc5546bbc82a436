"""The plugin of pytest: found by itself, lazy, and at home with pytest-asyncio in both its modes."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester",)

REFUSING = """
    from gatepost import deny, hookimpl

    class Refusing:
        @hookimpl
        def connect(self):
            return deny("nobody is welcome")
"""


@pytest.fixture(autouse=True)
def settings(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)


def test_nothing_of_gatepost_is_imported_before_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_before():
            assert not [name for name in sys.modules if name.split(".")[0] in ("gatepost", "gatepost_builtin")]

        def test_used(policy):
            assert "gatepost.testing" in sys.modules
            assert policy().gate
        """
    )
    run(pytester).assert_outcomes(passed=2)


@pytest.mark.parametrize(("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")])
def test_both_fixtures_in_both_modes(pytester: pytest.Pytester, mode: str, mark: str) -> None:
    pytester.makepyfile(
        plugin=REFUSING,
        test_it=f"""
        import pytest
        from plugin import Refusing

        {mark}
        async def test_policy(policy):
            assert (await policy(Refusing).connect()).banner.text == "nobody is welcome"

        {mark}
        async def test_server(server):
            async with server(Refusing) as live:
                assert (await (await live.connect()).reply()).code == 554
        """,
    )
    run(pytester, f"--asyncio-mode={mode}").assert_outcomes(passed=2)


def test_without_pytest_asyncio_a_test_runs_its_own_loop(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(
        plugin=REFUSING,
        test_it="""
        import asyncio
        from plugin import Refusing

        def test_policy(policy):
            assert asyncio.run(policy(Refusing).connect()).banner.code == 554
        """,
    )
    run(pytester, "-p", "no:asyncio").assert_outcomes(passed=1)


def test_dialogue_files_are_tests(pytester: pytest.Pytester) -> None:
    pytester.makefile(".smtp", good="S: 220…\nC: QUIT\nS: 221…\n", wrong="S: 220…\nC: QUIT\nS: 250…\n")
    pytester.makefile(".smtp", broken="nothing of the kind\n")
    outcome = run(pytester, "--continue-on-collection-errors")
    outcome.assert_outcomes(passed=2, failed=2, errors=1)
    outcome.stdout.fnmatch_lines(["*broken.smtp:1: 'nothing of the kind' is neither*", "*wrong.smtp, conversation*"])
    outcome.stdout.fnmatch_lines(["wrong.smtp:3: this was not said", "- S: 250…", "+ S: 221 2.0.0 bye"])
    assert "collecting.py" not in outcome.stdout.str()


def test_a_dialogue_names_a_plugin_beside_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(plugin=REFUSING)
    pytester.makefile(".toml", gate='[plugins]\norder = ["mine"]\n[plugins.mine]\nuse = "plugin.py"\n')
    pytester.makefile(".smtp", beside="policy: gate.toml\nS: 554 5.7.1 nobody is welcome\nclosed\n")
    text = '---\n[plugins]\norder = ["mine"]\n[plugins.mine]\nuse = "plugin.py"\n---\nS: 554…\nclosed\n'
    pytester.makefile(".smtp", within=text)
    run(pytester).assert_outcomes(passed=4)


def test_a_wrong_policy_of_a_dialogue_is_shown_in_a_sentence(pytester: pytest.Pytester) -> None:
    pytester.makefile(".smtp", wrong='---\n[plugins]\norder = ["nobody"]\n---\nS: 220…\n')
    outcome = run(pytester)
    outcome.assert_outcomes(failed=2)
    outcome.stdout.fnmatch_lines("*policy:3: plugins.nobody: no installed package offers a plugin 'nobody'*")
