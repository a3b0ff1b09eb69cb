"""The gate: without accounts one local person; with accounts nothing but the sign-in page for whoever is nobody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from backend.accounts.gate import COOKIE, OPEN_FOLDERS, OPEN_PATHS
from backend.accounts.throttle import FREE_TRIES
from backend.db import LoginSession, User
from backend.db.models import now
from tests.backend.accounts.support import ORIGIN, PASSWORD, Ward, ward
from tests.backend.support import API, Studio, assert_problem


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with ward(tmp_path_factory.mktemp("gate") / "data") as made:
        yield made


def test_without_accounts_the_local_person_may_do_everything(studio: Studio) -> None:
    assert studio.http.get(f"{API}/me").json() == {
        "id": None, "name": "local", "role": "admin", "scopes": ["admin", "predict", "read", "write"],
    }  # fmt: skip
    assert studio.http.get(f"{API}/datasets").status_code == 200
    assert studio.http.get("/login", follow_redirects=False).headers["location"] == "/"
    refused = studio.http.post(f"{API}/session", json={"name": "ada", "password": PASSWORD})
    assert_problem(refused, 409, "no-accounts")


def test_every_route_of_the_api_but_the_open_ones_asks_for_a_sign_in(server: Ward) -> None:
    asked = 0
    for path, methods in server.app.openapi()["paths"].items():
        for method in methods:
            if path in OPEN_PATHS:
                continue
            answer = server.anonymous.request(method.upper(), path.replace("{", "").replace("}", ""), headers=ORIGIN)
            if method == "head":
                assert answer.status_code == 401
            else:
                assert_problem(answer, 401, "sign-in-needed")
            assert answer.headers["www-authenticate"] == "Bearer"
            asked += 1
    assert asked > 60


@pytest.mark.parametrize(
    "path",
    [
        "/", "/config", "/gradio_api/info", "/gradio_api/queue/join", "/gradio_api/file=/etc/passwd", "/api/docs",
        "/api/openapi.json", "/gradio_api/startup-events", "/studio/../api/v1/datasets", "/nothing", "/theme.css",
    ],
)  # fmt: skip
def test_no_other_path_is_open(server: Ward, path: str) -> None:
    answer = server.anonymous.get(path, follow_redirects=False)
    assert answer.status_code == 401, (path, answer.status_code)


def test_a_browser_is_led_to_the_sign_in_page_and_back(server: Ward) -> None:
    wanted = server.anonymous.get("/?view=1", headers={"accept": "text/html"}, follow_redirects=False)
    assert wanted.status_code == 303 and wanted.headers["location"] == "/login?next=/"
    page = server.anonymous.get("/login?next=/deep")
    assert 'value="/deep"' in page.text and "frame-ancestors 'none'" in page.headers["content-security-policy"]
    form = {"name": "Ada", "password": PASSWORD, "next": "/deep"}
    entered = server.anonymous.post("/login", data=form, headers=ORIGIN, follow_redirects=False)
    server.anonymous.cookies.clear()
    assert entered.status_code == 303 and entered.headers["location"] == "/deep"
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and "HttpOnly" in cookie and "SameSite=lax" in cookie


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", ""])
def test_signing_in_leads_to_no_other_site(server: Ward, target: str) -> None:
    form = {"name": "ada", "password": PASSWORD, "next": target}
    entered = server.anonymous.post("/login", data=form, headers=ORIGIN, follow_redirects=False)
    server.anonymous.cookies.clear()
    assert entered.headers["location"] == "/"


def test_a_wrong_password_says_no_more_than_an_unknown_name(server: Ward) -> None:
    answers = [
        server.anonymous.post(f"{API}/session", json={"name": name, "password": "not the password"}, headers=ORIGIN)
        for name in ("cleo", "nobody of that name")
    ]
    for answer in answers:
        assert_problem(answer, 401, "wrong-password")
    assert answers[0].json() == answers[1].json()


def test_guessing_is_slowed_down_even_for_the_right_password(server: Ward) -> None:
    wrong = {"name": "guessed", "password": "not the password"}
    for _ in range(FREE_TRIES):
        server.anonymous.post(f"{API}/session", json=wrong, headers=ORIGIN)
    problem = assert_problem(server.anonymous.post(f"{API}/session", json=wrong, headers=ORIGIN), 429, "too-many-tries")
    assert problem["retry_after"] >= 1
    page = server.anonymous.post("/login", data=wrong, headers=ORIGIN)
    assert page.status_code == 429 and int(page.headers["retry-after"]) >= 1 and "Too many wrong" in page.text


def test_a_cookie_alone_changes_nothing_without_saying_from_which_page(server: Ward) -> None:
    browser = server.browser("ben")
    del browser.headers["origin"]
    assert browser.get(f"{API}/datasets").status_code == 200
    assert_problem(browser.post(f"{API}/datasets/demo"), 403, "origin-missing")
    foreign = browser.post(f"{API}/datasets/demo", headers={"origin": "https://evil.example"})
    assert_problem(foreign, 403, "cross-origin-refused")


def test_signing_out_ends_the_session_on_the_server_too(server: Ward) -> None:
    browser = server.browser("ben")
    secret = browser.cookies[COOKIE]
    assert browser.delete(f"{API}/session").status_code == 204
    stale = server.anonymous.get(f"{API}/me", headers={"cookie": f"{COOKIE}={secret}"})
    assert_problem(stale, 401, "sign-in-needed")


@pytest.mark.parametrize("age", [{"seen": now() - timedelta(hours=13)}, {"created": now() - timedelta(days=8)}])
def test_a_session_that_is_too_old_is_over(server: Ward, age: dict[str, object]) -> None:
    browser = server.browser("cleo")
    with server.parts.database.session() as session:
        session.execute(update(LoginSession).where(LoginSession.user_id == server.ids["cleo"]).values(**age))
    assert_problem(browser.get(f"{API}/me"), 401, "sign-in-needed")


def test_a_disabled_account_is_out_at_once(tmp_path: Path) -> None:
    with ward(tmp_path / "data") as server:
        browser, program = server.browser("ben"), server.program("ben", "read")
        assert program.get(f"{API}/me").json()["name"] == "ben"
        admin = server.browser("ada")
        assert admin.patch(f"{API}/accounts/{server.ids['ben']}", json={"disabled": True}).json()["disabled"] is True
        assert_problem(browser.get(f"{API}/me"), 401, "sign-in-needed")
        assert_problem(program.get(f"{API}/me"), 401, "sign-in-needed")
        again = server.anonymous.post(f"{API}/session", json={"name": "ben", "password": PASSWORD}, headers=ORIGIN)
        assert_problem(again, 401, "wrong-password")


def test_nothing_secret_stands_in_the_database(server: Ward) -> None:
    secret = server.browser("ben").cookies[COOKIE]
    token, _ = server.parts.people.issue(server.ids["ben"], "x", ["read"], 1)
    with server.parts.database.session() as session:
        hashes = [user.password_hash for user in session.query(User)]
    stored = b"".join(path.read_bytes() for path in server.parts.storage.root.glob("wara.db*"))
    assert all(text.startswith("$argon2id$") for text in hashes)
    for text in (secret, token, PASSWORD):
        assert text.encode() not in stored


def test_what_is_open_is_little() -> None:
    assert {
        "/login", "/favicon.ico", f"{API}/session", f"{API}/health/live", f"{API}/health/ready",
    } == OPEN_PATHS  # fmt: skip
    assert OPEN_FOLDERS == ("/studio/",)
