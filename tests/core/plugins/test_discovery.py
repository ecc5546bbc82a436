"""Plugins are found in packages and files, imported once they are named, and refused if made for another gatepost."""

from __future__ import annotations

from importlib.metadata import version as installed_version

import pytest

from gatepost import HOOKS_VERSION
from gatepost import config as configuration
from gatepost.plugins.discovery import find_plugins, installed
from tests.core.plugins.packages import GOOD, LISTEN, ONE, Packages, body


def test_an_installed_plugin_does_nothing_before_it_is_named_in_the_order(packages: Packages) -> None:
    packages.install("thing")
    assert "thing" in {offer.name for offer in installed()}
    policy = packages.load(LISTEN)
    assert (policy.instances, policy.gates["smtp"].order("mail")) == ({}, ())
    policy = packages.load(ONE)
    assert policy.gates["smtp"].order("mail") == ("thing",)
    made = policy.instances["thing"]
    assert (made.package, made.version) == ("gatepost-thing", "1.0")


def test_a_plugin_that_nobody_names_is_not_even_imported(packages: Packages) -> None:
    packages.install("broken", "raise RuntimeError")
    assert packages.load(LISTEN).instances == {}


def test_a_module_with_hook_functions_is_a_plugin(packages: Packages) -> None:
    packages.install("thing", "@hookimpl\ndef mail(sender): return deny('no')", target="{module}")
    policy = packages.load(ONE)
    assert policy.gates["smtp"].order("mail") == ("thing",)


@pytest.mark.parametrize("future", [True, False])
def test_a_local_file_needs_no_package(packages: Packages, future: bool) -> None:
    packages.file(
        "plugins/my thing.py",
        """
        import dataclasses

        class ThingOptions(Options):
            delay: Duration = 5.0
            domains: frozenset[str]

        @dataclasses.dataclass
        class Memory:
            seen: int = 0

        class Thing:
            Options = ThingOptions

            def __init__(self, options: ThingOptions) -> None:
                self.options = options
                self.memory = Memory()

            @hookimpl
            def mail(self, sender: Address) -> Decision | None:
                return None
        """,
    )
    path = packages.folder / "plugins/my thing.py"
    if not future:
        path.write_text(path.read_text().replace("from __future__ import annotations\n", ""))
    policy = packages.load(ONE + '[plugins.thing]\nuse = "plugins/my thing.py"\ndomains = ["a.example"]\ndelay = "1m"')
    made = policy.instances["thing"]
    assert (made.plugin.options.delay, made.plugin.options.domains) == (60.0, {"a.example"})
    assert (made.package, made.version) == (str(path), "")


def test_a_local_file_may_be_a_module_with_hook_functions_and_be_used_twice(packages: Packages) -> None:
    packages.file("mine.py", "@hookimpl\ndef mail(sender): return None")
    policy = packages.load(
        f'{LISTEN}[plugins]\norder = ["a", "b"]\n[plugins.a]\nuse = "mine.py"\n[plugins.b]\nuse = "mine.py"'
    )
    assert policy.default.order("mail") == ("a", "b")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("def (:", "SyntaxError: "),
        ("", "AttributeError: module 'gatepost_thing_module' has no attribute 'Plugin'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(packages: Packages, text: str, complaint: str) -> None:
    packages.install("thing", text)
    (mistake,) = packages.mistakes(ONE)
    assert mistake.startswith(
        f"gatepost.toml:4: plugins.thing: thing of gatepost-thing 1.0 cannot be imported: {complaint}"
    )


def test_two_packages_that_offer_one_name_are_both_named(packages: Packages) -> None:
    packages.install("thing", package="gatepost-thing")
    packages.install("thing", package="gatepost-rival", version="0.3")
    (mistake,) = packages.mistakes(ONE)
    assert mistake.endswith(
        "thing is offered by two packages, gatepost-rival 0.3 and gatepost-thing 1.0; uninstall one"
    )


def test_a_package_that_offers_the_name_of_a_built_in_plugin_stops_the_start_with_both_names(
    packages: Packages,
) -> None:
    packages.install("dnsbl", version="0.3")
    (mistake,) = packages.mistakes(f'{LISTEN}[plugins]\norder = ["dnsbl"]\n[plugins.dnsbl]\nzones = {{ a = 1 }}')
    ours = installed_version("gatepost")
    assert mistake.endswith(f"dnsbl is offered by two packages, gatepost {ours} and gatepost-dnsbl 0.3; uninstall one")


def test_two_packages_with_one_name_do_no_harm_while_nobody_names_it(packages: Packages) -> None:
    packages.install("thing", package="gatepost-thing")
    packages.install("thing", package="gatepost-rival")
    packages.install("other")
    assert packages.load(f'{LISTEN}[plugins]\norder = ["other"]').default.order("mail") == ("other",)


OURS = installed_version("gatepost")


@pytest.mark.parametrize("requirement", ["gatepost>=99", "gatepost>=99,<100", "Gatepost ~= 99.1"])
def test_a_plugin_made_for_a_newer_gatepost_is_refused_before_it_is_imported(
    packages: Packages, requirement: str
) -> None:
    packages.install("thing", "raise RuntimeError('was imported')", version="2.5", requires=[requirement])
    wanted = requirement[len("gatepost") :].replace(" ", "")
    assert packages.mistakes(ONE) == [
        f"gatepost.toml:4: plugins.thing: thing of gatepost-thing 2.5 is made for gatepost {wanted}, and this is {OURS}"
    ]


def test_a_plugin_made_for_an_older_gatepost_only_is_refused_too(packages: Packages) -> None:
    packages.install("thing", requires=["gatepost<0.0.1"])
    (mistake,) = packages.mistakes(ONE)
    assert mistake.endswith(f"is made for gatepost <0.0.1, and this is {OURS}")


@pytest.mark.parametrize(
    "requirement",
    [
        "gatepost",
        f"gatepost>={OURS}",
        f"gatepost[new]=={OURS}",
        "gatepost>=99; python_version < '3'",
        "gatepost>=99; extra == 'testing'",
        "gatepost-other>=99",
        "gatepost is nice",
    ],
)
def test_a_plugin_whose_requirements_are_met_or_do_not_count_is_taken(packages: Packages, requirement: str) -> None:
    packages.install("thing", requires=[requirement])
    assert packages.load(ONE).default.order("mail") == ("thing",)


@pytest.mark.parametrize(
    ("ours", "requirement", "is_met"),
    [
        ("0.4.0.dev1", "gatepost>=0.4,<0.5", True),
        ("0.4.0rc1", "gatepost>=0.4", True),
        ("0.4.0.dev1", "gatepost>=0.4.1", False),
        ("0.4.1.dev1", "gatepost==0.4.0", False),
    ],
)
def test_a_pre_release_counts_as_what_it_leads_to(
    packages: Packages, monkeypatch: pytest.MonkeyPatch, ours: str, requirement: str, is_met: bool
) -> None:
    packages.install("thing", requires=[requirement])
    monkeypatch.setattr("importlib.metadata.version", lambda name: ours)
    if is_met:
        assert packages.load(ONE).default.order("mail") == ("thing",)
    else:
        assert packages.mistakes(ONE)[0].endswith(f"and this is {ours}")


def test_a_class_made_for_later_hooks_is_refused_with_that_sentence_only(packages: Packages) -> None:
    later = f"hooks_version = {HOOKS_VERSION + 1}"
    packages.install("thing", body("@hookimpl\n    def dream(self, session, depth): ...", later), version="2.5")
    assert packages.mistakes(ONE + '[plugins.thing]\ndepth = "all"') == [
        f"gatepost.toml:5: plugins.thing: gatepost-thing 2.5: it is made for hooks version {HOOKS_VERSION + 1}, "
        f"and this gatepost has {HOOKS_VERSION}: a newer one is needed"
    ]


def test_a_local_file_made_for_later_hooks_is_refused_too(packages: Packages) -> None:
    packages.file("mine.py", f"hooks_version = {HOOKS_VERSION + 1}\n@hookimpl\ndef dream(session): ...")
    (mistake,) = packages.mistakes(ONE + '[plugins.thing]\nuse = "mine.py"')
    assert "mine.py: it is made for hooks version" in mistake


def test_a_class_made_for_these_hooks_is_taken(packages: Packages) -> None:
    packages.install("thing", body("@hookimpl\n    def mail(self): ...", f"hooks_version = {HOOKS_VERSION}"))
    assert packages.load(ONE).default.order("mail") == ("thing",)


def test_plugins_are_found_by_table_or_installed_name_and_not_made(packages: Packages) -> None:
    packages.install("thing", body("@hookimpl\n    def mail(self): ...", "def __init__(self): raise ValueError"))
    packages.file("mine.py", GOOD)
    packages.toml.write_text('[plugins.own]\nuse = "mine.py"\n[plugins.again]\nuse = "thing"\n')
    found, mistakes = find_plugins(configuration.load_config(packages.toml, {}), ["own", "again", "thing", "nonesuch"])
    assert {name: each.origin for name, each in found.items()} == {
        "own": str(packages.folder / "mine.py"),
        "again": "gatepost-thing 1.0",
        "thing": "gatepost-thing 1.0",
    }
    assert [mistake.key for mistake in mistakes] == ["plugins.nonesuch"]


def test_a_missing_plugin_is_named_with_the_nearest_one(packages: Packages) -> None:
    packages.install("thing")
    (mistake,) = packages.mistakes(f'{LISTEN}[plugins]\norder = ["thng"]')
    assert mistake == "gatepost.toml:4: plugins.thng: no installed package offers a plugin 'thng'; did you mean thing?"
    (mistake,) = packages.mistakes(f'{LISTEN}[plugins]\norder = ["xyzzy"]')
    assert mistake.endswith("no installed package offers a plugin 'xyzzy'")


@pytest.mark.parametrize(
    ("use", "text", "complaint"),
    [
        ("nowhere.py", None, "is not a Python file that can be read"),
        ("mine.py", "raise OSError('no')", "mine.py cannot be imported: OSError: no"),
        ("mine.py", GOOD + GOOD.replace("Plugin", "Other"), "mine.py holds several plugins: Plugin, Other"),
        ("mine.py", "x = 1", "mine.py: it implements no phase"),
    ],
)
def test_a_local_file_with_a_mistake_is_named_at_its_line(
    packages: Packages, use: str, text: str | None, complaint: str
) -> None:
    if text is not None:
        packages.file("mine.py", text)
    (mistake,) = packages.mistakes(f'{ONE}[plugins.thing]\nuse = "{use}"')
    assert mistake.startswith(("gatepost.toml:6: plugins.thing.use: ", "gatepost.toml:5: plugins.thing: "))
    assert complaint in mistake


def test_a_class_that_another_one_in_the_file_is_made_from_is_no_plugin_itself(packages: Packages) -> None:
    packages.file("mine.py", GOOD + "\n\nclass Mine(Plugin):\n    grants = 'recipients'\n")
    packages.toml.write_text(f'{ONE}[plugins.thing]\nuse = "mine.py"')
    found, mistakes = find_plugins(configuration.load_config(packages.toml, {}), ["thing"])
    assert not mistakes and found["thing"].plugin.__name__ == "Mine"
