"""A real server in a process of its own, a real browser that notices what goes wrong, and generated images."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = ("data", "train", "classify", "analyse", "models")
READY = re.compile(r"ready: (http://\S+)")
START_SECONDS = 120
STEP_MS = 60_000
TRAINING_MS = 900_000


@contextmanager
def running_server(folder: Path, **settings: str) -> Iterator[str]:
    """Start ``python -m backend`` on a free port with its own data folder; gives its address."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WARA_")}
    environment |= {"WARA_PORT": "0", "WARA_DATA_DIR": str(folder / "data"), "WARA_OFFLINE": "true", **settings}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "backend"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        try:
            yield _address(process, folder / "server.log")
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdout.close()


def _address(process: subprocess.Popen, log: Path) -> str:
    found: list[str] = []
    ready = threading.Event()

    def read() -> None:
        for line in process.stdout:
            match = READY.search(line)
            if match:
                found.append(match.group(1))
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    ready.wait(START_SECONDS)
    assert found, f"The server did not start:\n{log.read_text()}"
    return found[0]


class Watch:
    """Collects what must not happen on a page: errors in the console, uncaught errors, calls to another host."""

    def __init__(self, base: str) -> None:
        self.host = urlsplit(base).netloc
        self.refusals_expected = False
        self.failures_expected = False
        self.seen: list[str] = []

    def follow(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.seen.append(f"uncaught: {error}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium itself reports every answer of 4xx as an error; a refusal that a test asks for is none.
        refusal = message.text.startswith("Failed to load resource: the server responded with a status of 4")
        failure = message.text.startswith("Failed to load resource: ") and self.failures_expected
        if message.type == "error" and not (refusal and self.refusals_expected) and not failure:
            self.seen.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != self.host:
            self.seen.append(f"request to {parts.netloc}")


class Studio:
    """The page as a person uses it."""

    def __init__(self, browser: Browser, base: str, watch: Watch, **context: object) -> None:
        self.base = base
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page = self.context.new_page()
        self.page.set_default_timeout(STEP_MS)
        watch.follow(self.page)

    def open(self, page: str = "data") -> None:
        self.page.goto(f"{self.base}/#{page}")
        expect(self.page.locator(f"#page-{page} h1")).to_be_visible(timeout=STEP_MS)

    def go(self, page: str) -> None:
        self.page.locator(f'#studio-header nav a[href="#{page}"]').click()
        expect(self.page.locator(f"#page-{page} h1")).to_be_visible()

    def upload(self, folder: Path) -> None:
        self.page.locator("#data-upload input[webkitdirectory]").set_input_files(folder)

    def uploaded(self, images: int) -> Locator:
        detail = self.page.locator("#data-detail article[data-state=ready]")
        expect(detail).to_be_visible(timeout=STEP_MS)
        expect(detail.locator(".tile").first).to_contain_text(f"{images:,}")
        return detail

    def start(self, **fields: str) -> Locator:
        """Fill in the form (a method or a preset by its card, the rest by name) and start."""
        form = self.page.locator("#train-form form")
        expect(form).to_be_visible()
        advanced = {key: value for key, value in fields.items() if key not in ("method", "preset", "backbone", "name")}
        for key in ("method", "preset"):
            if key in fields:
                form.locator(f"input[name={key}][value={fields[key]}]").check()
        if "backbone" in fields:
            form.locator("select[name=backbone]").select_option(label=fields["backbone"])
        if "name" in fields:
            form.locator("input[name=name]").fill(fields["name"])
        if advanced:
            form.locator("#advanced > summary").click()
            for key, value in advanced.items():
                form.locator(f"input[name={key}]").fill(value)
        form.get_by_role("button", name="Start training").click()
        return self.page.locator("#train-job .job")

    def job(self, state: str, timeout: int = STEP_MS) -> Locator:
        job = self.page.locator(f"#train-job .job[data-state={state}]")
        expect(job).to_be_visible(timeout=timeout)
        return job

    def classify(self, files: list[Path]) -> Locator:
        expect(self.page.locator("#classify-model select")).to_be_visible()
        self.page.locator("#classify-images").set_input_files(files)
        results = self.page.locator("#classify-results section[data-state=ready]")
        expect(results.locator(".result")).to_have_count(len(files), timeout=STEP_MS)
        return results

    def plots_are_drawn(self) -> None:
        """Both plots have arrived and are pictures of some size."""
        for plot in ("#plot-energy", "#plot-spectrum"):
            image = self.page.locator(f"{plot} img:visible").first
            expect(image).to_be_visible()
            image.scroll_into_view_if_needed()
            self.page.wait_for_function(
                "image => image.complete && image.naturalWidth > 300", arg=image.element_handle(), timeout=STEP_MS
            )

    def nothing_is_cut_off(self) -> None:
        """No page is wider than its window."""
        wide, window = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= window, f"the page is {wide} px wide in a window of {window} px"


def screenshots(browser: Browser, base: str, watch: Watch, folder: Path, unseen: list[Path]) -> None:
    """Leave a picture of every page, light and dark, in a wide and a narrow window."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in (1280, 800):
        for theme in ("light", "dark"):
            studio = Studio(browser, base, watch, viewport={"width": width, "height": 900}, color_scheme=theme)
            studio.open()
            for page in PAGES:
                studio.go(page)
                if page == "data":
                    expect(studio.page.locator("#data-detail article")).to_be_visible()
                if page == "train":
                    expect(studio.page.locator("#train-job .job")).to_be_visible()
                if page == "classify":
                    studio.classify(unseen)
                if page == "analyse":
                    studio.plots_are_drawn()
                if page == "models":
                    expect(studio.page.locator("#models-list tbody tr").first).to_be_visible()
                studio.page.evaluate("document.fonts.ready")
                studio.nothing_is_cut_off()
                studio.page.screenshot(path=folder / f"{page}-{width}-{theme}.png", full_page=True)
            studio.context.close()


def artefacts(name: str) -> Path:
    """Where pictures of a run are left: ``WARA_ARTEFACTS``, or ``artefacts`` in the checkout (not in git)."""
    return Path(os.environ.get("WARA_ARTEFACTS") or ROOT / "artefacts") / name


def draw(folder: Path, classes: dict[str, int], *, first: int = 0) -> list[Path]:
    """Write generated images, rings of a class's own width, one sub-folder a class."""
    rows, columns = np.mgrid[0:64, 0:64] / 64
    paths = []
    for place, (name, number) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for image in range(first, first + number):
            rng = np.random.default_rng([place, image])
            radius = np.hypot(rows - rng.uniform(0.35, 0.65), columns - rng.uniform(0.35, 0.65))
            waves = np.cos(2 * np.pi * radius * (3 + 9 * place))
            pixels = 120 + 70 * waves + rng.normal(0, 8, radius.shape)
            path = folder / name / f"{name}_{image:03d}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            paths.append(path)
    return paths
