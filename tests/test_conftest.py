from __future__ import annotations

import random
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest


@pytest.mark.parametrize("address", [("203.0.113.7", 80), ("2001:db8::1", 80), ("example.invalid", 80)])
def test_a_connection_out_of_this_machine_is_refused(address, refused_connections):
    with pytest.raises(OSError, match="Tests stay on this machine"):
        socket.create_connection(address, timeout=1)

    assert any(address[0] in attempt for attempt in refused_connections)


def test_a_datagram_out_of_this_machine_is_refused(refused_connections):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        pytest.raises(OSError, match="Tests stay on this machine"),
    ):
        datagrams.sendto(b"hello", ("203.0.113.7", 9))

    assert refused_connections == ["socket.sendto 203.0.113.7"]


def test_urllib_sees_the_refusal_as_a_missing_network(refused_connections):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.URLError, match="Tests stay on this machine"):
        opener.open("http://example.invalid/", timeout=1)

    assert refused_connections


def test_loopback_stays_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("localhost", port), timeout=5), server.accept()[0] as accepted:
            assert accepted.getsockname()[1] == port


def test_an_attempt_that_was_swallowed_still_fails_the_test(pytester, repository):
    pytester.makeconftest((repository / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        """
        import contextlib, socket

        def test_quietly_calls_home():
            with contextlib.suppress(OSError):
                socket.create_connection(("203.0.113.7", 80), timeout=1)
        """
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    result.stdout.fnmatch_lines(["*tried to leave this machine: socket.*203.0.113.7*"])
    result.assert_outcomes(passed=1, errors=1)


def test_shared_data_that_is_missing_skips_with_its_place(pytester, repository, monkeypatch, tmp_path):
    monkeypatch.setenv("WARA_SHARED", str(tmp_path / "nowhere"))
    pytester.makeconftest((repository / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makeini("[pytest]\nmarkers = shared: x\n")
    pytester.makepyfile("def test_needs_it(shared_dir): assert False")

    result = pytester.runpytest_subprocess("-rs", "-p", "no:cacheprovider", "-m", "shared")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*no real data at *nowhere (set WARA_SHARED*"])


@pytest.mark.parametrize("turn", [1, 2])
def test_every_test_starts_from_the_same_seed(turn, seed, rng):
    del turn
    assert random.random() == random.Random(seed).random()
    assert np.random.rand() == np.random.RandomState(seed).rand()
    assert rng.random() == np.random.default_rng(seed).random()
