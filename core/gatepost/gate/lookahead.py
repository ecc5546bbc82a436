"""Look-ups that run ahead of their turn, each in a task of its own, so that waiting times overlap.

They see the session as it is when the phase starts and may not write to it. Their answers are taken at their turn: see
``unfinished``. Design, section 2 (looking ahead).
"""

from __future__ import annotations

import asyncio
from typing import Any

from gatepost.concurrency import Deadlines
from gatepost.errors import PluginError
from gatepost.gate.chain import Hook
from gatepost.write_guard import Acting, acting


def start(hook: Hook, arguments: tuple[Any, ...], deadlines: Deadlines) -> asyncio.Task[Any]:
    """Start the look-up ``hook``, with a time limit of its own, whatever is waited for before its turn."""
    task = asyncio.get_running_loop().create_task(_run(hook, arguments, deadlines))
    task.add_done_callback(_look_at)
    return task


async def _run(hook: Hook, arguments: tuple[Any, ...], deadlines: Deadlines) -> Any:
    acting.set(Acting(ahead=True))
    watch = deadlines.watch(hook.instance.time_limit)
    try:
        answer = await hook.function(*hook.pick(arguments))
    except (SystemExit, KeyboardInterrupt) as error:  # in a task of its own these would end the process
        raise PluginError(f"{type(error).__name__}: {error}") from error
    except asyncio.CancelledError:
        if not watch.take_back(deadlines.now()) or watch.cancelled_by_others:
            raise
        raise late(hook) from None
    finally:
        deadlines.release(watch)
    if watch.take_back(deadlines.now()):
        raise late(hook)
    return answer


def late(hook: Hook) -> PluginError:
    """What an answer counts as that came too late, or not at all."""
    return PluginError(f"no answer within {hook.instance.time_limit:g} s")


def _look_at(task: asyncio.Task[Any]) -> None:
    """Look at the outcome of a look-up that nobody took, so that asyncio does not complain of it."""
    if not task.cancelled():
        task.exception()
