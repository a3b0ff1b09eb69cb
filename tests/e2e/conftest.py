"""The browser, the watch over it, and a server for the tests with generated images."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.support import FLAGS, STEP_MS, Studio, Watch, running_server


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    # Not for the whole run: while Playwright is open, an event loop of its own runs in this thread.
    expect.set_options(timeout=STEP_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def base(tmp_path: object, browser: Browser) -> Iterator[str]:
    """A server with what the repository brings. The browser comes first, so that none is started in vain."""
    with running_server(tmp_path) as address:
        yield address


@pytest.fixture
def watch(base: str) -> Iterator[Watch]:
    """What went wrong on any page of the test fails it at the end."""
    watch = Watch(base)
    yield watch
    assert watch.seen == []


@pytest.fixture
def studio(browser: Browser, base: str, watch: Watch) -> Iterator[Studio]:
    studio = Studio(browser, base, watch)
    yield studio
    studio.context.close()
