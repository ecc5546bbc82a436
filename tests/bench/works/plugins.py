"""The cost of a plugin that passes: gatepost-bare without plugins and with ten that pass in every phase.

They are asked at connect, helo, mail, rcpt, data, headers, message, queue, reset and disconnect. Each message has its
own connection, so that each of these phases happens once per message.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tests.bench.servers import gatepost
from tests.bench.works import Effort, Row, Work
from tests.bench.works.messages import ready

TEN = 10


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows: without plugins, and with ten."""
    servers = (gatepost.bare(), gatepost.with_plugins(TEN))
    return [Row(server.name, server, partial(ready, server, 1)) for server in servers]


WORK = Work("plugins", "1 KiB messages, one per connection, without and with ten plugins that pass", rows)
