"""Images of many requests answered together: each gets its own answer, batches fill, nobody waits for a stranger."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from backend.answering import AT_ONCE, WINDOW, Answering
from wara.errors import InputError
from wara.predictions import Prediction, ReadFile

SQUARE: Any = "a square"


class Echo:
    """Stands for a model: the label is the file's content; notes its batches, and waits for its gate."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.read_now = self.most_read = self.handed = 0
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def read(self, name: str, content: bytes | InputError) -> ReadFile:
        with self._lock:
            self.read_now += 1
            self.most_read = max(self.most_read, self.read_now)
        if isinstance(content, InputError):
            return ReadFile(name, error=content)
        if content == b"boom":
            raise MemoryError("no room")
        return ReadFile(name, (SQUARE,) * (content.count(b"|") + 1), content.decode())

    def answer(self, files: Sequence[ReadFile]) -> list[Prediction]:
        with self._lock:
            self.handed += len(files)
        assert self.gate.wait(10)
        self.batches.append([file.name for file in files])
        with self._lock:
            self.read_now -= len(files)
        if any(file.patient == "bad" for file in files):
            raise ValueError("the model broke")
        return [Prediction(file.name, None if file.error else file.patient, None) for file in files]


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering(readers=2)
    made.start()
    yield made
    made.stop()


def given(*contents: bytes) -> list[Any]:
    return [lambda content=content, number=number: (f"{number}", content) for number, content in enumerate(contents)]


def labels(answering: Answering, model: Any, *contents: bytes) -> list[str | None]:
    return [found.label for found in asyncio.run(answering.answer(model, given(*contents)))]


def test_answers_stand_in_the_order_of_the_files(answering: Answering) -> None:
    contents = [f"{number}".encode() for number in range(3 * WINDOW)]
    assert labels(answering, Echo(), *contents) == [content.decode() for content in contents]
    assert answering.waiting == 0


def test_single_images_of_many_requests_share_batches_and_each_gets_its_own(answering: Answering) -> None:
    model = Echo()
    model.gate.clear()

    async def many() -> list[str | None]:
        asked = [asyncio.create_task(answering.answer(model, given(f"{number}".encode()))) for number in range(60)]
        while model.read_now < 60:
            await asyncio.sleep(0.01)
        model.gate.set()
        return [(await task)[0].label for task in asked]

    assert asyncio.run(many()) == [str(number) for number in range(60)]
    assert len(model.batches) <= 4
    assert max(len(batch) for batch in model.batches) == AT_ONCE


@pytest.mark.parametrize(("files", "handed"), [(1 + AT_ONCE, 1 + AT_ONCE), (AT_ONCE, 1)])
def test_a_full_batch_goes_ahead_while_another_is_computed_and_one_that_is_not_waits(
    answering: Answering, files: int, handed: int
) -> None:
    model = Echo()
    model.gate.clear()

    async def many() -> int:
        first = asyncio.create_task(answering.answer(model, given(b"x")))
        while not model.handed:
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(answering.answer(model, given(b"y"))) for _ in range(files - 1)]
        while model.read_now < files:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        seen = model.handed
        model.gate.set()
        await asyncio.gather(first, *others)
        return seen

    assert asyncio.run(many()) == handed
    assert model.handed == files


def test_a_request_of_thousands_has_few_files_in_memory_and_lets_others_in_between(answering: Answering) -> None:
    model = Echo()

    def contents() -> Iterator[tuple[str, bytes]]:
        for number in range(1000):
            if number == 500:
                assert labels(answering, model, b"single") == ["single"]
            yield f"{number}", b"many"

    assert len(list(answering.answer_each(model, contents()))) == 1000
    assert model.most_read <= WINDOW + 1


def test_models_do_not_share_batches_and_no_batch_has_too_many_images(answering: Answering) -> None:
    one, other = Echo(), Echo()
    one.gate.clear()

    async def both() -> list[Any]:
        asked = [answering.answer(model, given(b"|" * 19, b"|" * 19)) for model in (one, other, one)]
        tasks = [asyncio.create_task(each) for each in asked]
        while one.read_now + other.read_now < 6:
            await asyncio.sleep(0.01)
        one.gate.set()
        return [await task for task in tasks]

    assert [[found.label for found in answer] for answer in asyncio.run(both())] == [["|" * 19] * 2] * 3
    assert [len(batch) for batch in one.batches] == [1] * 4 and [len(batch) for batch in other.batches] == [1] * 2


def test_an_unreadable_file_and_an_error_meet_only_those_whom_they_concern(answering: Answering) -> None:
    model = Echo()
    refused = InputError("It is no image", remedy="Send an image.", code="x")
    found = asyncio.run(answering.answer(model, [lambda: ("a", refused), lambda: ("b", b"fine")]))
    assert [answer.label for answer in found] == [None, "fine"]
    with pytest.raises(MemoryError):
        labels(answering, model, b"boom")
    with pytest.raises(ValueError, match="the model broke"):
        labels(answering, model, b"bad")
    assert labels(answering, model, b"after") == ["after"]
    assert answering.waiting == 0


def test_who_goes_away_does_not_stop_the_others(answering: Answering) -> None:
    model = Echo()
    model.gate.clear()

    async def leave() -> list[Prediction]:
        leaving = asyncio.create_task(answering.answer(model, given(*[b"x"] * 10)))
        await asyncio.sleep(0.05)
        leaving.cancel()
        staying = asyncio.create_task(answering.answer(model, given(b"y")))
        await asyncio.sleep(0.05)
        model.gate.set()
        return await staying

    assert asyncio.run(leave())[0].label == "y"
    end = time.monotonic() + 10
    while answering.waiting and time.monotonic() < end:
        time.sleep(0.01)
    assert answering.waiting == 0


def test_at_the_stop_what_was_asked_is_answered() -> None:
    answering, model = Answering(readers=2), Echo()
    with pytest.raises(RuntimeError):
        labels(answering, model, b"too early")
    answering.start()
    each = answering.answer_each(model, (("n", b"z") for _ in range(5)))
    first = next(each)
    answering.stop()
    assert [first.label, *(answer.label for answer in each)] == ["z"] * 5
