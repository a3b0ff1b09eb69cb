"""A server with accounts, in a real browser: signing in, tokens, people, sharing; as several people see it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e import axe
from tests.e2e.support import Studio, Watch, artefacts, running_server

ADMIN, PASSWORD, NEW = "admin", "correct horse battery staple", "four other unrelated words"
DEMO = "Demo (synthetic images)"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("people"), WARA_ADMIN_PASSWORD=PASSWORD) as address:
        origin = {"origin": address}
        with httpx.Client(base_url=f"{address}/api/v1", timeout=300, trust_env=False, headers=origin) as http:
            http.post("/session", json={"name": ADMIN, "password": PASSWORD}).raise_for_status()
            http.post("/datasets/demo").raise_for_status()
            for name, role in (("Ben", "member"), ("Vera", "viewer"), ("Wanda", "viewer")):
                http.post("/accounts", json={"name": name, "password": PASSWORD, "role": role}).raise_for_status()
        yield address


@pytest.fixture
def watch(base: str) -> Iterator[Watch]:
    """A refusal by the content policy would be an error in the console, and is seen here."""
    watch = Watch(base)
    watch.refusals_expected = True  # a wrong password is answered with 401
    yield watch
    # Gradio writes the bare answer down that it gets where the session ended while it asked for something.
    assert [seen for seen in watch.seen if seen != "console: Response"] == []


@pytest.fixture
def studio(browser: Browser, base: str, watch: Watch) -> Iterator[Studio]:
    studio = Studio(browser, base, watch)
    yield studio
    studio.context.close()


def sign_in(page: Page, base: str, name: str, password: str = PASSWORD) -> None:
    page.goto(f"{base}/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def to_account(page: Page) -> None:
    page.locator("#studio-header .person").click()
    expect(page.locator("#page-account h1")).to_be_visible()


def test_one_signs_in_changes_the_password_and_signs_out(studio: Studio) -> None:
    page = studio.page
    sign_in(page, studio.base, "Vera", "not the password")
    expect(page.get_by_role("alert")).to_contain_text("do not fit together")
    sign_in(page, studio.base, "Vera")
    expect(page.locator("#studio-header .person")).to_have_text("Vera")
    expect(page.locator("#data-detail")).to_contain_text("No images yet")
    to_account(page)
    expect(page.locator("#account-own")).to_contain_text("viewer")
    for hidden in ("#account-people", "#account-audit", "#account-person-form"):
        expect(page.locator(hidden).get_by_role("heading")).to_have_count(0)
    form = page.locator("#account-own form")
    form.get_by_label("Password now").fill(PASSWORD)
    form.get_by_label("New password").fill("short")
    form.get_by_role("button").click()
    expect(form.get_by_role("alert")).to_contain_text("too short")
    form.get_by_label("New password").fill(NEW)
    form.get_by_role("button").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    sign_in(page, studio.base, "Vera", NEW)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert page.goto(f"{studio.base}/").url.endswith("/login?next=/")


def test_a_token_is_shown_once_works_and_is_revoked(studio: Studio) -> None:
    page = studio.page
    sign_in(page, studio.base, "Ben")
    to_account(page)
    form = page.locator("#account-token-form")
    form.get_by_label("Name of the program").fill("Nightly <script>")
    form.get_by_role("button", name="Make a token").click()
    secret = form.locator("code").inner_text()
    address, known = f"{studio.base}/api/v1/me", {"authorization": f"Bearer {secret}"}
    assert httpx.get(address, headers=known, trust_env=False).json()["scopes"] == ["read"]
    listed = page.locator("#account-tokens")
    expect(listed).to_contain_text("Nightly <script>")
    expect(listed).not_to_contain_text(secret)
    page.reload()
    expect(listed).to_contain_text("Nightly <script>")
    assert secret not in page.content()
    listed.get_by_role("button", name="Revoke Nightly").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(listed).to_contain_text("There is no token")
    assert httpx.get(address, headers=known, trust_env=False).status_code == 401


def test_a_data_set_is_shared_seen_and_taken_back(browser: Browser, studio: Studio, watch: Watch) -> None:
    page, other = studio.page, Studio(browser, studio.base, watch)
    sign_in(other.page, studio.base, "Ben")
    expect(other.page.locator("#data-detail")).to_contain_text("No images yet")
    sign_in(page, studio.base, ADMIN)
    opener = page.get_by_role("button", name=f"Share {DEMO}")
    opener.click()
    dialog = page.get_by_role("dialog", name=f"Share “{DEMO}”")
    expect(dialog).to_contain_text("shared with nobody")
    dialog.get_by_label("With").select_option(label="Ben")
    dialog.get_by_role("button", name="Share").click()
    expect(dialog.get_by_role("listitem")).to_contain_text("Ben may look and train")
    other.page.reload()
    expect(other.page.locator("#data-list")).to_contain_text(f"{DEMO} of admin, to look at")
    image = other.page.locator("#data-images .lightbox img").first
    image.scroll_into_view_if_needed()
    other.page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image.element_handle())
    expect(other.page.get_by_role("button", name=f"Delete {DEMO}")).to_have_count(0)
    expect(other.page.locator("[data-share]")).to_have_count(0)
    dialog.get_by_role("button", name="Take back from Ben").click()
    expect(dialog).to_contain_text("shared with nobody")
    dialog.get_by_role("button", name="Close").click()
    expect(opener).to_be_focused()
    other.page.reload()
    expect(other.page.locator("#data-detail")).to_contain_text("No images yet")
    other.context.close()


def test_an_admin_makes_changes_and_disables_accounts_and_sees_what_was_done(studio: Studio) -> None:
    page = studio.page
    sign_in(page, studio.base, ADMIN)
    to_account(page)
    form = page.locator("#account-person-form")
    form.get_by_label("Name").fill("Cleo")
    form.get_by_label("First password").fill(PASSWORD)
    form.get_by_role("button", name="Make the account").click()
    people = page.locator("#account-people")
    role = people.get_by_label("Role of Cleo")
    expect(role).to_have_value("member")
    role.select_option("viewer")
    own = people.get_by_label("Role of admin")
    own.select_option("member")
    expect(people.get_by_role("alert").filter(has_text="This is the only admin")).to_be_visible()
    expect(own).to_have_value("admin")
    people.get_by_role("button", name="Disable Cleo").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(people.get_by_role("button", name="Let in again: Cleo")).to_be_visible()
    refused = {"name": "Cleo", "password": PASSWORD}
    answer = httpx.post(f"{studio.base}/api/v1/session", json=refused, trust_env=False)
    assert answer.status_code == 401
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all as CSV").click()
    text = Path(download.value.path()).read_text()
    assert "change_account" in text and "create_account" in text
    page.reload()
    expect(page.locator("#account-audit")).to_contain_text("Change account")


def test_an_account_that_only_looks_is_offered_nothing_that_would_be_refused(
    browser: Browser, studio: Studio, watch: Watch
) -> None:
    page = studio.page
    sign_in(page, studio.base, ADMIN)
    expect(page.locator("#data-upload")).to_be_visible()
    page.get_by_role("button", name=f"Share {DEMO}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("With").select_option(label="Wanda")
    dialog.get_by_role("button", name="Share").click()
    expect(dialog.get_by_role("listitem")).to_contain_text("Wanda may look and train")
    other = Studio(browser, studio.base, watch)
    sign_in(other.page, studio.base, "Wanda")
    expect(other.page.locator("#data-list")).to_contain_text(DEMO)
    expect(other.page.locator("#data-images .lightbox img").first).to_be_visible()
    expect(other.page.locator("#data-upload")).to_be_hidden()
    expect(other.page.get_by_role("link", name="Train on these images")).to_have_count(0)
    expect(other.page.get_by_role("button", name="Change where labels come from")).to_have_count(0)
    other.go("train")
    expect(other.page.locator("#train-form")).to_contain_text("Training is not open to your account")
    expect(other.page.get_by_role("button", name="Start training")).to_have_count(0)
    other.go("models")
    expect(other.page.locator("#models-bring-in")).to_be_hidden()
    for place in ("classify", "analyse", "models"):
        other.go(place)
        expect(other.page.locator(f"#page-{place}")).to_contain_text("No model is shared with you yet")
        expect(other.page.locator(f"#page-{place}").get_by_role("link", name="Go to Train")).to_have_count(0)
    other.context.close()
    dialog.get_by_role("button", name="Take back from Wanda").click()
    expect(dialog).to_contain_text("shared with nobody")


@pytest.mark.parametrize("width", [360, 500, 640, 800])
def test_the_header_holds_all_it_offers_in_a_narrow_window(studio: Studio, width: int) -> None:
    page = studio.page
    sign_in(page, studio.base, ADMIN)
    page.set_viewport_size({"width": width, "height": 900})
    for offered in (
        page.get_by_role("link", name="Models"), page.locator("#studio-header .person"),
        page.get_by_role("button", name="Sign out"), page.get_by_role("button", name="Light or dark"),
    ):  # fmt: skip
        box = offered.bounding_box()
        assert box is not None and box["x"] >= 0 and box["width"] > 0
        assert box["x"] + box["width"] <= width, f"{offered} ends at {box['x'] + box['width']:.0f} px of {width}"


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (800, "dark")])
def test_the_pages_of_people_can_be_read_and_used_by_everybody(
    browser: Browser, base: str, watch: Watch, width: int, theme: str
) -> None:
    checker = axe.script()
    folder = artefacts("people")
    folder.mkdir(parents=True, exist_ok=True)
    studio = Studio(browser, base, watch, viewport={"width": width, "height": 900}, color_scheme=theme, bypass_csp=True)
    page = studio.page
    page.goto(base)
    assert axe.violations(page, checker) == [], f"login, {theme}"
    page.screenshot(path=folder / f"login-{width}-{theme}.png")
    sign_in(page, base, ADMIN)
    page.get_by_role("button", name=f"Share {DEMO}").click()
    expect(page.get_by_role("dialog").get_by_role("listitem")).to_be_visible()
    assert axe.violations(page, checker) == [], f"share, {theme}"
    page.screenshot(path=folder / f"share-{width}-{theme}.png")
    page.get_by_role("button", name="Close").click()
    to_account(page)
    expect(page.locator("#account-audit table")).to_be_visible()
    studio.nothing_is_cut_off()
    assert axe.violations(page, checker) == [], f"account, {theme}"
    page.screenshot(path=folder / f"account-{width}-{theme}.png", full_page=True)
    studio.context.close()
