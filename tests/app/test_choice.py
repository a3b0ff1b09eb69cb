"""What a person chose stays chosen, whatever was under way at that moment."""

import asyncio
from typing import Any

import gradio as gr

from app.components.choice import Choice
from app.pages import data, train
from tests.app.test_pages import dataset, job


class SlowBackend:
    """Answers the first list of its things only when it is told to; it stands for a busy server."""

    def __init__(self, things: list[dict[str, Any]]) -> None:
        self.things, self.asked, self.may_answer = things, asyncio.Event(), asyncio.Event()

    async def jobs(self) -> list[dict[str, Any]]:
        self.asked.set()
        await self.may_answer.wait()
        return self.things

    datasets = jobs


async def clicked_meanwhile(backend: SlowBackend, refresh: Any, chosen: Choice[Any], value: Any) -> Any:
    """Let a refresh begin, choose something, let the refresh end; returns what it shows."""
    under_way = asyncio.create_task(refresh(chosen))
    await backend.asked.wait()
    chosen.value = value
    backend.may_answer.set()
    return await under_way


def test_a_refresh_under_way_shows_the_training_that_is_chosen_meanwhile() -> None:
    jobs = [job(id="new", name="New", state="failed"), job(id="old", name="Old", state="failed")]

    async def run() -> tuple[Any, str | None]:
        backend, chosen = SlowBackend(jobs), Choice[str | None]("new")
        with gr.Blocks():
            look = train.build(backend)["look"]  # type: ignore[arg-type]
        _, shown = await clicked_meanwhile(backend, look, chosen, "old")
        return shown, chosen.value

    (shown, listed), chosen = asyncio.run(run())
    assert chosen == "old"
    assert '<h2 class="big">Old' in shown and "New" not in shown
    assert 'data-id="old" aria-current=true' in listed


def test_a_refresh_under_way_shows_the_data_set_that_is_chosen_meanwhile() -> None:
    sets = [dataset(id=key, name=key.title(), status="failed") for key in ("new", "old")]

    async def run() -> tuple[Any, dict[str, Any]]:
        backend, chosen = SlowBackend(sets), Choice(data.anew("new"))
        with gr.Blocks():
            show = data.build(backend)["show"]  # type: ignore[arg-type]
        return await clicked_meanwhile(backend, show, chosen, data.anew("old")), chosen.value

    shown, chosen = asyncio.run(run())
    assert chosen["id"] == "old"
    assert "<h2>Old" in shown[1] and "New" not in shown[1]


def test_what_is_settled_while_drawing_is_kept_and_nothing_is_drawn_twice_without_need() -> None:
    drawn: list[str | None] = []

    async def drawing(value: str | None) -> tuple[str, str | None]:
        drawn.append(value)
        return f"shows {value or 'first'}", value or "first"

    chosen = Choice[str | None](None)
    assert asyncio.run(chosen.draw(drawing)) == "shows first"
    assert chosen.value == "first" and drawn == [None]
