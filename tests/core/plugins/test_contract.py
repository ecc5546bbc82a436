"""Hooks and declarations are held to the contract, with a sentence for each mistake."""

from __future__ import annotations

import re
from dataclasses import fields
from types import ModuleType
from typing import Any

import pytest

from gatepost import Options, PluginError, deny, hookimpl
from gatepost.gate.instance import Declaration
from gatepost.plugins import contract
from gatepost.plugins.contract import declaration_of
from gatepost.plugins.load import make_gate
from tests.core.plugins.packages import GOOD, ONE, Packages, body
from tests.policy import Policy, instance

DECLARING = """
class Plugin:
    @property
    def phases(self):
        return ("mail", "rcpt")
    @hookimpl
    def helo(self): ...
    @hookimpl
    def mail(self): ...
    @hookimpl
    def rcpt(self): ...
"""


@pytest.mark.parametrize(("table", "phases"), [("", {"mail", "rcpt"}), ('phases = ["helo", "mail"]', {"mail"})])
def test_a_plugin_is_asked_only_in_the_phases_that_it_declares(
    packages: Packages, table: str, phases: set[str]
) -> None:
    packages.install("thing", DECLARING)
    policy = packages.load(f"{ONE}[plugins.thing]\n{table}")
    assert {phase for phase in ("helo", "mail", "rcpt") if policy.default.order(phase)} == phases


def test_a_phase_that_this_gatepost_does_not_know_may_be_optional(packages: Packages) -> None:
    packages.install("thing", GOOD + "    @hookimpl(optionalhook=True)\n    def dream(self): ...\n")
    assert packages.load(ONE).default.order("mail") == ("thing",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (body("@hookimpl\n    def mial(self): ..."), "it implements 'mial', which is not a phase; did you mean mail?"),
        (body("@hookimpl\n    def zzz(self): ..."), "it implements 'zzz', which is not a phase"),
        (body("def mail(self): ..."), "it implements no phase; its hooks are those marked with @hookimpl"),
        (
            body("@hookimpl\n    def mail(self, session, recipient): ..."),
            "its mail asks for 'recipient', but mail has session, envelope, sender, parameters",
        ),
        (
            body("@hookimpl\n    def mail(self, *, sender): ..."),
            "its mail takes sender, but a hook takes plain arguments only",
        ),
        (
            body("@hookimpl\n    def mail(self, *args): ..."),
            "its mail takes *args, but a hook takes plain arguments only",
        ),
        (body("@hookimpl\n    def mail(self, **kwargs): ..."), "its mail takes **kwargs, but a hook"),
        (
            body("@hookimpl(wrapper=True)\n    def mail(self): yield"),
            "its mail is marked wrapper, which would break the order that the configuration states",
        ),
        (body("@hookimpl(tryfirst=True)\n    def mail(self): ..."), "its mail is marked tryfirst, which would break"),
        (body("@hookimpl(trylast=True)\n    def mail(self): ..."), "its mail is marked trylast, which would break"),
        (
            body("@hookimpl(ahead=True)\n    def mail(self): ..."),
            "its mail is marked ahead=True, which is for an async def",
        ),
        (
            body("@hookimpl(blocking=True)\n    async def mail(self): ..."),
            "its mail is marked blocking=True, which is for a plain def",
        ),
        (
            body("@hookimpl(ahead=True)\n    async def queue(self): ..."),
            "its queue is marked ahead=True, which is only for a look-up whose answer may go unused",
        ),
        (
            body("@hookimpl(early=True)\n    def mail(self): ..."),
            "its mail is marked early=True, which is for a connect that is a plain def",
        ),
        (
            body("@hookimpl(early=True)\n    async def connect(self): ..."),
            "its connect is marked early=True, which is for a connect that is a plain def",
        ),
        (
            body("@hookimpl\n    async def ruled(self): ..."),
            "its ruled must be a plain def, because nothing waits for it",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "def __init__(self, options, cache): ..."),
            "its constructor asks for 'cache'; there are options, dns, store, clock, next_hop, log, name",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "def __init__(self): raise ValueError('no')"),
            "its constructor failed: ValueError: no",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "def __init__(self): raise SystemExit(3)"),
            "its constructor failed: SystemExit: 3",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "grants = 'everything'"),
            "it declares the grant 'everything'; there are recipients, logins, delivery",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "on_error = 'accept'"),
            'its on_error must be "defer" or "pass", not \'accept\'',
        ),
        (body("@hookimpl\n    def mail(self): ...", "on_error = []"), 'its on_error must be "defer" or "pass", not []'),
        (
            body("@hookimpl\n    def mail(self): ...", "grants = 5"),
            "its grants must be a name or several names, of recipients, logins, delivery",
        ),
        (body("@hookimpl\n    def mail(self): ...", "grants = ('delivery', [])"), "its grants must be a name or"),
        (
            body("@hookimpl\n    def mail(self): ...", "longest_wait = 'soon'"),
            "its longest_wait must be a number of seconds, not 'soon'",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "longest_wait = property(lambda self: 1 / 0)"),
            "its longest_wait cannot be read: ZeroDivisionError: division by zero",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "phases = ('mail', 'rcpd')"),
            "its phases has 'rcpd', which is not a phase; did you mean rcpt?",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "Options = dict"),
            "its Options is not a subclass of gatepost.Options",
        ),
    ],
)
def test_a_plugin_with_a_mistake_is_refused_with_plugin_package_and_version(
    packages: Packages, text: str, complaint: str
) -> None:
    packages.install("thing", text, version="2.5")
    (mistake,) = packages.mistakes(ONE)
    assert mistake.startswith(f"gatepost.toml:4: plugins.thing: gatepost-thing 2.5: {complaint}")


# Declarations


def declaring(*lines: str) -> str:
    return body("@hookimpl\n    def mail(self): ...", "\n    ".join(lines))


def test_every_declaration_has_a_check() -> None:
    assert set(contract._CHECKS) == {field.name for field in fields(Declaration)}


def test_nothing_is_declared_by_default() -> None:
    class Silent:
        @hookimpl
        def mail(self) -> Any: ...

    assert declaration_of(Silent()) == declaration_of(Silent) == Declaration()


def test_a_class_an_object_and_a_module_declare_alike() -> None:
    class Telling:
        Options = Options
        grants = ("delivery", "recipients")
        on_error = "pass"
        skip_trusted = takes_everything = commits = trusts = wants_vouched = defers_strangers = True
        gives_points = "negative"
        phases = ("queue",)
        hooks_version = 1
        longest_wait = 5
        next_hops = ("192.0.2.1:25",)

    module = ModuleType("telling")
    vars(module).update({name: value for name, value in vars(Telling).items() if not name.startswith("_")})
    declared = Declaration(
        Options=Options,
        grants=frozenset({"delivery", "recipients"}),
        on_error="pass",
        skip_trusted=True,
        phases=frozenset({"queue"}),
        hooks_version=1,
        longest_wait=5.0,
        takes_everything=True,
        commits=True,
        next_hops=("192.0.2.1:25",),
        trusts=True,
        wants_vouched=True,
        defers_strangers=True,
        gives_points=frozenset({"negative"}),
    )
    assert declaration_of(Telling) == declaration_of(Telling()) == declaration_of(module) == declared


def test_a_property_has_no_value_before_the_object_is_made() -> None:
    class Waiting:
        def __init__(self) -> None:
            self.next_hops = ("192.0.2.1:25",)

        @property
        def longest_wait(self) -> float:
            return 5.0

    assert declaration_of(Waiting) == Declaration()
    assert declaration_of(Waiting()) == Declaration(longest_wait=5.0, next_hops=("192.0.2.1:25",))


def test_a_property_that_lacks_an_attribute_is_not_taken_for_a_missing_declaration() -> None:
    class Broken:
        @property
        def skip_trusted(self) -> bool:
            return bool(self.nonesuch)  # type: ignore[attr-defined]

    with pytest.raises(PluginError, match=r"its skip_trusted cannot be read: AttributeError: .*nonesuch"):
        declaration_of(Broken())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("skip_trusted = 'yes'", "its skip_trusted must be True or False, not 'yes'"),
        ("trusts = 1", "its trusts must be True or False, not 1"),
        ("wants_vouched = None", "its wants_vouched must be True or False, not None"),
        ("takes_everything = lambda self: True", "its takes_everything must be True or False, not a function"),
        ("longest_wait = True", "its longest_wait must be a number of seconds, not True"),
        ("longest_wait = -1", "its longest_wait must be a number of seconds, not -1"),
        ("longest_wait = float('nan')", "its longest_wait must be a number of seconds, not nan"),
        ("hooks_version = '1'", "its hooks_version must be a whole number, not '1'"),
        ("phases = 'mail'", "its phases must be a collection of names of phases, not 'mail'"),
        ("next_hops = '192.0.2.1:25'", "its next_hops must be a collection of text, not '192.0.2.1:25'"),
        ("defers_strangers = 1", "its defers_strangers must be True or False, not 1"),
        ("gives_points = 'some'", 'its gives_points must be "positive", "negative" or both, not \'some\''),
        ("gives_points = True", 'its gives_points must be "positive", "negative" or both, not True'),
        ("next_hops = (25,)", "its next_hops must be a collection of text, not (25,)"),
    ],
)
def test_a_declaration_of_a_wrong_type_is_refused(packages: Packages, line: str, complaint: str) -> None:
    packages.install("thing", declaring(line))
    assert packages.mistakes(ONE) == [f"gatepost.toml:4: plugins.thing: gatepost-thing 1.0: {complaint}"]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("skip_trused = True", "skip_trusted"),
        ("skip_trustedd = True", "skip_trusted"),
        ("skip_trustad = True", "skip_trusted"),
        ("skip_rtusted = False", "skip_trusted"),
        ("skip_trused: bool = True", "skip_trusted"),
        ("skip_trused: bool", "skip_trusted"),
        ("skip_trused: typing.ClassVar[bool]", "skip_trusted"),
        ("grant = 'delivery'", "grants"),
        ("on_eror = 'pass'", "on_error"),
        ("phase = ('mail',)", "phases"),
        ("hook_version = 99", "hooks_version"),
        ("longest_wiat = 5", "longest_wait"),
        ("longest_wiat = property(lambda self: 5.0)", "longest_wait"),
        ("longest_wiat: float\n    def __init__(self): self.longest_wiat = 5.0", "longest_wait"),
        ("takes_everthing = True", "takes_everything"),
        ("next_hop = ('192.0.2.1:25',)", "next_hops"),
        ("trust = True", "trusts"),
        ("want_vouched = True", "wants_vouched"),
        ("defer_strangers = True", "defers_strangers"),
        ("give_points = 'negative'", "gives_points"),
    ],
)
def test_a_name_that_narrowly_misses_a_declaration_is_refused(packages: Packages, line: str, meant: str) -> None:
    packages.install("thing", f"import typing\n{declaring(line)}")
    name = re.split(r"\W", line)[0]
    assert packages.mistakes(ONE) == [
        f"gatepost.toml:4: plugins.thing: gatepost-thing 1.0: it declares {name}, which means nothing to gatepost; "
        f"did you mean {meant}?"
    ]


def test_a_near_miss_in_a_base_class_is_refused_too(packages: Packages) -> None:
    inherits = declaring("pass").replace("class Plugin:", "class Plugin(Base):")
    packages.install("thing", f"class Base:\n    skip_trused = True\n{inherits}")
    (mistake,) = packages.mistakes(ONE)
    assert mistake.endswith("did you mean skip_trusted?")


@pytest.mark.parametrize(
    "line",
    [
        "_trusts = _skip_trused = True",
        "skip_trust = True",
        "skipped_trusted = True",
        "trust = 'anybody'",
        "phase = 'mail'",
        "grant = 'everything'",
        "def trust(self): ...",
        "class Option(Options): ...",
        "option: Options",
        "trust = property(lambda self: 1 / 0)",
        "def __init__(self, next_hop): self.next_hop = next_hop",
        "def __init__(self): self.skip_trused = True",
    ],
)
def test_every_other_name_is_the_authors_own(packages: Packages, line: str) -> None:
    packages.install("thing", declaring(line))
    assert packages.load(ONE).instances["thing"].declaration == Declaration()


def test_the_names_in_a_module_are_not_compared(packages: Packages) -> None:
    packages.install("thing", "trust = True\n@hookimpl\ndef mail(sender): ...", target="{module}")
    assert packages.load(ONE).instances["thing"].declaration.trusts is False


def test_a_plugin_is_loaded_without_running_its_properties() -> None:
    class Loud:
        @property
        def loud(self) -> Any:
            raise AssertionError("was run")

        @hookimpl
        def mail(self) -> Any:
            return deny("no")

    policy = Policy()
    assert make_gate([instance(Loud())], policy.clock, policy.events).order("mail") == ("loud",)


def test_a_hook_that_pluggy_itself_has_marked_is_taken(packages: Packages) -> None:
    packages.install(
        "thing",
        "import pluggy\nmark = pluggy.HookimplMarker('gatepost')\nclass Plugin:\n    @mark\n    def mail(self): ...",
    )
    assert packages.load(ONE).default.order("mail") == ("thing",)
