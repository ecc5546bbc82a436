"""A constructor is given the services that it names."""

from __future__ import annotations

from gatepost import NextHops
from tests.core.plugins.packages import LISTEN, ONE, Packages


def test_a_constructor_gets_the_services_that_it_names(packages: Packages) -> None:
    packages.install(
        "thing",
        """
        class ThingOptions(Options):
            delay: Duration = 5.0

        class Plugin:
            Options = ThingOptions
            grants = ("recipients", "delivery")
            on_error = "pass"
            skip_trusted = True

            def __init__(self, log, options, name, dns, clock, next_hop, store):
                self.got = (log, name, options.delay)
                self.dns, self.clock, self.next_hop, self.store = dns, clock, next_hop, store

            @property
            def longest_wait(self):
                return 7

            @hookimpl
            def connect(self): ...
        """,
    )
    policy = packages.load(ONE + '[plugins.thing]\ndelay = "2m"')
    made = policy.instances["thing"]
    assert made.plugin.got == ("thing", "thing", 120.0)
    assert isinstance(made.plugin.next_hop, NextHops)
    assert (made.declaration.grants, made.on_error, made.declaration.skip_trusted) == (
        {"recipients", "delivery"},
        "pass",
        True,
    )
    assert made.declaration.longest_wait == 7.0
    assert policy.default.chains["connect"].budget == 37.0


async def test_each_instance_has_a_namespace_of_the_store_to_itself(packages: Packages) -> None:
    packages.install(
        "thing",
        "class Plugin:\n    def __init__(self, store): self.store = store\n    @hookimpl\n    def mail(self): ...",
    )
    policy = packages.load(f'{LISTEN}[plugins]\norder = ["thing", "again"]\n[plugins.again]\nuse = "thing"')
    one, two = (made.plugin.store for made in policy.instances.values())
    await one.put("key", 1, 60)
    assert (await one.get("key"), await two.get("key")) == (1, None)
