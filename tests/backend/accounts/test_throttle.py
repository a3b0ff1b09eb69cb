"""Guessing passwords becomes slower and slower, for a name and for an address, and memory stays flat."""

from __future__ import annotations

from backend.accounts.throttle import FORGOTTEN_AFTER_S, FREE_TRIES, FREE_TRIES_OF_AN_ADDRESS, LONGEST_WAIT_S, Throttle


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def fail(throttle: Throttle, times: int, name: str = "ada", address: str = "here") -> None:
    for _ in range(times):
        throttle.failed(name, address)


def test_the_first_tries_are_free_and_then_each_wait_doubles() -> None:
    throttle = Throttle(clock := Clock())
    fail(throttle, FREE_TRIES - 1)
    assert throttle.wait_s("ada", "here") == 0
    waits = []
    for _ in range(5):
        fail(throttle, 1)
        waits.append(throttle.wait_s("ada", "here"))
    assert waits == [1, 2, 4, 8, 16]
    clock.time += 16
    assert throttle.wait_s("ada", "here") == 0


def test_no_wait_is_longer_than_the_longest_and_all_is_forgotten_after_a_while() -> None:
    throttle = Throttle(clock := Clock())
    fail(throttle, 50)
    assert throttle.wait_s("ada", "elsewhere") == LONGEST_WAIT_S
    clock.time += FORGOTTEN_AFTER_S + 1
    assert throttle.wait_s("ada", "elsewhere") == 0


def test_an_address_that_tries_many_names_waits_for_every_name() -> None:
    throttle = Throttle(Clock())
    for number in range(FREE_TRIES_OF_AN_ADDRESS + 1):
        throttle.failed(f"name {number}", "here")
    assert throttle.wait_s("somebody else", "here") > 0
    assert throttle.wait_s("somebody else", "elsewhere") == 0


def test_the_right_password_frees_the_name_and_not_the_address() -> None:
    throttle = Throttle(Clock())
    fail(throttle, FREE_TRIES_OF_AN_ADDRESS + 1)
    throttle.succeeded("ada")
    assert throttle.wait_s("ada", "elsewhere") == 0
    assert throttle.wait_s("ada", "here") > 0


def test_a_storm_of_names_does_not_fill_the_memory() -> None:
    throttle = Throttle(Clock())
    for number in range(30_000):
        throttle.failed(f"name {number}", f"address {number}")
    assert len(throttle._failures) <= 10_002
