"""Uploads that are paused, stopped, left and interrupted, in a real browser."""

import re
import socket
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Request, Route, expect

from tests.e2e.support import Studio, Watch, draw, running_server

LARGE_BYTES = 20 * 1024 * 1024
CHUNK_BYTES = 8 * 1024 * 1024


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """44 images of two classes, and a large file that goes by itself, in pieces."""
    draw(tmp_path / "rings", {"wide": 24, "narrow": 20})
    pattern = bytes(range(256)) * 4096
    (tmp_path / "rings" / "wide" / "large.bin").write_bytes((pattern * 20)[:LARGE_BYTES])
    return tmp_path / "rings"


class Traffic:
    """What a page sends by tus: which bytes were acknowledged, and which wait without an answer."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.held: list[Route] = []
        self.acknowledged: list[tuple[str, int]] = []
        studio.page.on("requestfinished", self._finished)

    def _finished(self, request: Request) -> None:
        if request.method != "PATCH" or (answer := request.response()) is None or answer.status != 204:
            return
        self.acknowledged.append((request.url, int(request.headers["upload-offset"])))

    def hold_from(self, offset: int) -> None:
        """Let every PATCH at or behind an offset wait without an answer."""

        def decide(route: Route) -> None:
            if route.request.method == "PATCH" and int(route.request.headers["upload-offset"]) >= offset:
                self.held.append(route)
            else:
                route.continue_()

        self.studio.page.route("**/api/v1/uploads/*", decide)

    def wait_until_held(self) -> None:
        while not self.held:
            self.studio.page.wait_for_event("request")

    def let_go(self) -> None:
        self.studio.page.unroute("**/api/v1/uploads/*")

    def nothing_was_acknowledged_twice(self) -> None:
        assert len(set(self.acknowledged)) == len(self.acknowledged), self.acknowledged


def datasets(studio: Studio) -> list[dict]:
    return studio.page.request.get(f"{studio.base}/api/v1/datasets").json()["items"]


def test_an_upload_is_paused_and_goes_on_and_after_a_reload_goes_on_with_the_folder_chosen_again(
    studio: Studio, watch: Watch, images: Path
) -> None:
    watch.failures_expected = True
    page = studio.page
    traffic = Traffic(studio)
    meter = page.locator("#upload-meter")
    studio.open()
    traffic.hold_from(CHUNK_BYTES)
    studio.upload(images)
    # The pack with the small files and the first piece of the large one arrive, then nothing more.
    expect(meter).to_contain_text("44 of 45 files arrived")
    traffic.wait_until_held()
    expect(page.locator("#data-detail section[data-state=receiving]")).to_contain_text("44 files arrived")

    page.get_by_role("button", name="Pause").click()
    expect(meter).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(meter).not_to_contain_text("Paused")

    page.reload()
    offer = page.locator("#upload-offer")
    expect(offer).to_contain_text("“rings” was not sent to its end.")
    expect(offer).to_contain_text("44 of 45 files have arrived")
    kept = page.evaluate("Object.values(localStorage).join()")
    assert "rings" not in kept and "wide" not in kept
    traffic.let_go()
    studio.upload(images)
    studio.uploaded(44)
    expect(offer).to_be_hidden()
    assert len(datasets(studio)) == 1
    traffic.nothing_was_acknowledged_twice()
    assert sorted(offset for _, offset in traffic.acknowledged) == [0, 0, CHUNK_BYTES, 2 * CHUNK_BYTES]


def test_an_upload_outlives_a_restart_of_the_server_in_its_middle(
    browser: Browser, tmp_path: Path, images: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with running_server(tmp_path, WARA_PORT=port) as base:
        watch = Watch(base)
        watch.failures_expected = True
        studio = Studio(browser, base, watch)
        traffic = Traffic(studio)
        studio.open()
        traffic.hold_from(CHUNK_BYTES)
        studio.upload(images)
        traffic.wait_until_held()
    # The server is gone; what waits goes on to it and breaks off.
    traffic.let_go()
    expect(studio.page.locator("#upload-meter")).to_contain_text("The server does not answer")
    with running_server(tmp_path, WARA_PORT=port):
        # When it has ended, Gradio loads the page anew.
        studio.uploaded(44)
        assert [entry["name"] for entry in datasets(studio)] == ["rings"]
        traffic.nothing_was_acknowledged_twice()
        assert sorted(offset for _, offset in traffic.acknowledged) == [0, 0, CHUNK_BYTES, 2 * CHUNK_BYTES]
        studio.context.close()


@pytest.mark.parametrize("failure", ["answer 500", "no answer"])
def test_an_end_that_fails_is_asked_for_again(studio: Studio, watch: Watch, images: Path, failure: str) -> None:
    watch.failures_expected = True
    failed: list[str] = []

    def fail_once(route: Route) -> None:
        if failed:
            route.continue_()
            return
        failed.append(route.request.url)
        if failure == "answer 500":
            route.fulfill(status=500, body="")
        else:
            route.abort()

    studio.open()
    studio.page.route("**/finish", fail_once)
    studio.upload(images)
    studio.uploaded(44)
    assert failed and len(datasets(studio)) == 1


def test_an_upload_that_is_stopped_leaves_nothing_behind(studio: Studio, watch: Watch, images: Path) -> None:
    watch.failures_expected = True
    page = studio.page
    traffic = Traffic(studio)
    studio.open()
    traffic.hold_from(0)
    with page.expect_request(re.compile("/uploads/")):
        studio.upload(images)
    with page.expect_response(lambda answer: answer.request.method == "DELETE") as removed:
        page.get_by_role("button", name="Stop").click()
    assert removed.value.status == 204
    expect(page.locator("#data-detail")).to_contain_text("No images yet")
    assert datasets(studio) == []
    page.reload()
    expect(page.locator("#upload-offer")).to_be_hidden()


def test_what_an_upload_left_can_be_deleted(studio: Studio, watch: Watch, images: Path) -> None:
    watch.failures_expected = True
    page = studio.page
    traffic = Traffic(studio)
    studio.open()
    traffic.hold_from(CHUNK_BYTES)
    studio.upload(images)
    expect(page.locator("#upload-meter")).to_contain_text("44 of 45 files arrived")
    page.reload()
    page.get_by_role("button", name="Delete what arrived").click()
    expect(page.locator("#data-detail")).to_contain_text("No images yet")
    expect(page.locator("#upload-offer")).to_be_hidden()
    assert datasets(studio) == []


def test_files_that_cannot_be_kept_are_named_with_their_reasons(studio: Studio, images: Path) -> None:
    (images / "wide" / "nul").write_bytes(b"a name that Windows keeps for itself")
    studio.open()
    studio.upload(images)
    studio.uploaded(44)
    refused = studio.page.locator("#upload-refused")
    expect(refused).to_contain_text("1 file could not be kept")
    expect(refused.locator("li")).to_contain_text("rings/wide/nul")


def test_a_person_agrees_to_what_is_kept_and_asks_to_say_where_the_classes_are(
    studio: Studio, watch: Watch, tmp_path: Path
) -> None:
    draw(tmp_path / "rings", {"wide": 12, "narrow": 12})
    sent: list[str] = []
    studio.page.on("request", lambda request: sent.append(request.url.rsplit("/", 1)[-1] + (request.post_data or "")))
    studio.open()
    for name in ("Other ways to lay out the folder", "What is kept of the patients"):
        studio.page.locator("#data-upload summary", has_text=name).click()
    studio.page.get_by_label("Keep sex and age").check()
    studio.page.get_by_label("Ask me where the classes are").check()
    studio.upload(tmp_path / "rings")
    expect(studio.page.locator("#data-mapping form")).to_be_visible()
    expect(studio.page.locator("#data-detail")).to_contain_text("You asked to say first")
    assert any('name="age_band"\r\n\r\n5' in text for text in sent)
    studio.page.locator("#data-mapping").get_by_role("button", name="Use these labels").click()
    studio.uploaded(24)
