"""Look-ups that run ahead of their turn, each in a task of its own, so that waiting times overlap.

They see the session as it is when the phase starts and may not write to it (``write_guard``). Their answers are taken
at their turn by ``slow_path``, so that the outcome is that of the configured order.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gatepost.concurrency import Deadlines
from gatepost.errors import PluginError
from gatepost.gate.chain import Hook
from gatepost.write_guard import forbid_writes


def start(hook: Hook, arguments: tuple[Any, ...], deadlines: Deadlines) -> asyncio.Task[Any]:
    """Start the look-up ``hook``. Its time limit runs from now on, however long its turn takes to come."""
    task = asyncio.get_running_loop().create_task(_run(hook, arguments, deadlines))
    task.add_done_callback(_retrieve)
    return task


async def _run(hook: Hook, arguments: tuple[Any, ...], deadlines: Deadlines) -> Any:
    forbid_writes()
    watch = deadlines.watch(hook.instance.time_limit)
    answer: Any = None
    try:
        answer = await hook.function(*hook.pick(arguments))
    except (SystemExit, KeyboardInterrupt) as error:  # in a task of its own these would end the process
        raise PluginError(f"{type(error).__name__}: {error}") from error
    except asyncio.CancelledError:
        # The sweep's cancellation is a failure. Any other means that nobody needs the answer any more.
        if not watch.end_wait(deadlines.now()) or watch.cancelled_by_others:
            raise
        is_late = True
    else:
        is_late = watch.end_wait(deadlines.now())
    finally:
        deadlines.release(watch)
    if is_late:
        # Out here, since compiled code forgets "from None" and would keep the cancellation as the error's context.
        raise late(hook)
    return answer


def late(hook: Hook) -> PluginError:
    """Return the error of a hook that gave no answer within its time limit."""
    return PluginError(f"no answer within {hook.instance.time_limit:g} s")


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of a look-up whose turn never came, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
