"""How work is started, limited in time, and ended: eager tasks, deadlines, points of no return, threads."""

from gatepost.concurrency.commitment import Commitment
from gatepost.concurrency.deadlines import Deadlines, Watch
from gatepost.concurrency.eager import SIGNAL, EagerTask, start_eagerly
from gatepost.concurrency.threads import Threads

__all__ = [
    "SIGNAL",
    "Commitment",
    "Deadlines",
    "EagerTask",
    "Threads",
    "Watch",
    "start_eagerly",
]
