"""How a page listens: one place that decides queueing, progress marks and what an unexpected error shows."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from app.client import BackendProblem

log = logging.getLogger("app")


def listen(
    trigger: Callable[..., Any],
    handler: Callable[..., Awaitable[Any]],
    inputs: Any = None,
    outputs: Any = None,
    *,
    repeats: bool = False,
) -> Any:
    """Run ``handler`` when ``trigger`` fires. The handler only makes short HTTP calls, so nothing queues.

    Returns Gradio's dependency, whose ``then`` and ``success`` are triggers again.

    A :class:`BackendProblem` that a handler lets through is shown as its sentence; anything else is a bug:
    it goes to the log in full, and the page says so without its text. With ``repeats`` (timers) a beat is left out
    while the one before it is still under way.
    """

    @functools.wraps(handler)
    async def guarded(*arguments: Any) -> Any:
        try:
            return await handler(*arguments)
        except BackendProblem as problem:
            raise gr.Error(problem.sentence, title="Not done", print_exception=False) from problem
        except gr.Error:
            raise
        except Exception as error:
            log.exception("A handler of the page failed: %s", handler.__qualname__)
            sentence = "This part of the page could not be shown. Reload the page; the server's log says more."
            raise gr.Error(sentence, title="Something went wrong", print_exception=False) from error

    return trigger(
        guarded,
        inputs,
        outputs,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="once" if repeats else "multiple",
    )
