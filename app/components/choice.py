"""What a person chose on a page, kept so that a refresh which is under way at that moment cannot undo it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
Drawn = TypeVar("Drawn")


class Choice(Generic[Value]):
    """The choice of one browser window, held in a ``gr.State`` and changed in place.

    Handlers of a page run side by side: one that began before a click would answer after it with what was chosen
    before, and as an output of Gradio that answer would stay. So a handler sets ``value`` before it waits for
    anything, and everything is drawn through :meth:`draw`.
    """

    def __init__(self, value: Value) -> None:
        self.value = value

    async def draw(self, drawing: Callable[[Value], Awaitable[tuple[Drawn, Value]]]) -> Drawn:
        """Return what ``drawing`` makes of the choice, once more where another was made while it was drawn.

        Args:
            drawing: draws a value; returns what it drew and the value that stands then, e.g. the first data set
                where none was chosen.
        """
        while True:
            before = self.value
            drawn, settled = await drawing(before)
            if self.value == before:
                self.value = settled
                return drawn
