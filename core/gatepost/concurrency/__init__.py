"""How work is started, limited in time, and ended: eager tasks, deadlines, threads."""

from gatepost.concurrency.deadlines import Deadlines, Watch
from gatepost.concurrency.eager import Dialogue, Talk, begin, client
from gatepost.concurrency.threads import Threads

__all__ = [
    "Deadlines",
    "Dialogue",
    "Talk",
    "Threads",
    "Watch",
    "begin",
    "client",
]
