"""Behind a proxy: whose word is believed, a path of its own, and https by settings; each with the pages in front."""

from __future__ import annotations

import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from backend.main import create_app
from backend.settings import Settings
from tests.backend.support import API, Server, assert_problem, settings_for
from tests.backend.test_commands import run

PASSWORD = "correct horse battery staple"
FORWARDED = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "x-forwarded-host": "evil.example"}
SIGN_IN = {"name": "admin", "password": PASSWORD}


def client_at(settings: Settings, peer: str) -> TestClient:
    return TestClient(create_app(settings), base_url="http://127.0.0.1:7860", client=(peer, 50000))


def proxied(folder: Path, **values: Any) -> Settings:
    return settings_for(folder, admin_password=PASSWORD, trusted_proxies="10.0.0.0/24", **values)


@pytest.mark.parametrize(("peer", "believed"), [("10.0.0.7", True), ("10.0.1.7", False), ("127.0.0.1", False)])
def test_a_trusted_proxy_alone_says_who_asks_and_how(tmp_path: Path, peer: str, believed: bool) -> None:
    with client_at(proxied(tmp_path / "data"), peer) as client:
        origin = {"origin": "http://127.0.0.1:7860"}
        answer = client.post(f"{API}/session", json=SIGN_IN, headers=FORWARDED | origin)
        assert answer.status_code == 200
        # The cookie is for https alone where the proxy says that the browser came by https.
        assert ("Secure" in answer.headers["set-cookie"]) is believed
        for _ in range(3):
            client.post(f"{API}/session", json=SIGN_IN | {"password": "wrong one"}, headers=FORWARDED | origin)
        throttle = client.app.state.parts.people._throttle  # type: ignore[attr-defined]
        addresses = {key for kind, key in throttle._failures if kind == "address"}
        assert addresses == {"203.0.113.9" if believed else peer}


def test_a_proxy_means_that_others_come_so_accounts_are_needed_even_on_loopback(tmp_path: Path) -> None:
    done = run(tmp_path / "data", WARA_TRUSTED_PROXIES="127.0.0.1")
    assert done.returncode == 2 and "behind a proxy" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "values",
    [{"trusted_proxies": "nginx"}, {"root_path": "studio"}, {"root_path": "/a/"}, {"root_path": "/../x?"},
     {"tls_cert": "cert.pem"}],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Settings(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def under_a_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A browser beside a server, pages included, that a proxy shows at /ward/studio."""
    server = Server(
        tmp_path_factory.mktemp("path") / "data", WARA_ROOT_PATH="/ward/studio", WARA_ADMIN_PASSWORD=PASSWORD,
        WARA_FRONT_END="true",
    )  # fmt: skip
    studio = server.start()
    try:
        assert str(studio.http.base_url).endswith("/ward/studio/")
        address = str(studio.http.base_url).removesuffix("/ward/studio/")
        with httpx.Client(base_url=address, trust_env=False, timeout=60, headers={"origin": address}) as browser:
            yield browser
    finally:
        server.stop(signal.SIGTERM)


@pytest.mark.parametrize("root", ["", "/ward/studio"], ids=["cut off", "left on"])
def test_under_a_path_of_a_proxy_everything_is_found_whether_it_is_cut_off_or_not(
    under_a_path: httpx.Client, root: str
) -> None:
    client = under_a_path
    client.cookies.clear()
    asked = client.get(f"{root}/", headers={"accept": "text/html"})
    assert asked.status_code == 303 and asked.headers["location"] == "/ward/studio/login?next=/"
    assert_problem(client.get(f"{root}{API}/datasets"), 401, "sign-in-needed")
    entered = client.post(f"{root}/login", data=SIGN_IN)
    assert entered.headers["location"] == "/ward/studio/" and "Path=/ward/studio" in entered.headers["set-cookie"]
    known = {"cookie": entered.headers["set-cookie"].partition(";")[0]}
    client.cookies.clear()
    assert client.get(f"{root}{API}/datasets", headers=known).json() == {"items": []}
    [first, *_] = client.get(f"{root}{API}/demo", headers=known).json()["images"]
    assert first["url"].startswith(f"/ward/studio{API}/demo/images/")
    page = client.get(f"{root}/", headers=known)
    assert page.status_code == 200
    root_url = re.search(r'"root":\s*"([^"]*)"', client.get(f"{root}/config", headers=known).text)
    assert root_url is not None and root_url[1] == f"{str(client.base_url).rstrip('/')}/ward/studio"
    assert client.get(f"{root}/studio/style.css").status_code == 200
    docs = client.get(f"{root}/api/docs", headers=known).text
    assert "/ward/studio/api/openapi.json" in docs and "/ward/studio/api/docs/assets" in docs
    assert client.get(f"{root}/api/docs/assets/swagger-ui.css", headers=known).status_code == 200
    described = client.get(f"{root}/api/openapi.json", headers=known).json()
    assert described["servers"] == [{"url": "/ward/studio"}]
    assert_problem(client.get(f"{root}/ward/studio/ward/studio/login"), 401, "sign-in-needed")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that signed itself, for another name than this machine's loopback, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed, which makes the certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=studio.example"
    subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_https_by_settings_serves_the_api_and_the_pages_reach_it(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    server = Server(
        tmp_path / "data", WARA_TLS_CERT=str(cert), WARA_TLS_KEY=str(key), WARA_ADMIN_PASSWORD=PASSWORD,
        WARA_FRONT_END="true", WARA_HOST="127.0.0.1",
    )  # fmt: skip
    studio = server.start()
    try:
        address = str(studio.http.base_url).rstrip("/")
        assert address.startswith("https://")
        trust = ssl.create_default_context(cafile=str(cert))
        trust.check_hostname = False
        with httpx.Client(base_url=address, verify=trust, trust_env=False, headers={"origin": address}) as browser:
            entered = browser.post(f"{API}/session", json=SIGN_IN)
            assert entered.status_code == 200 and "Secure" in entered.headers["set-cookie"]
            assert browser.get(f"{API}/me").json()["name"] == "admin"
            assert header_of(browser) == "admin"
    finally:
        server.stop(signal.SIGTERM)


def header_of(browser: httpx.Client) -> str | None:
    """Who the pages say is signed in: they ask the API over https, in the name of whoever looks."""
    config = browser.get("/config").json()
    first = next(entry for entry in config["dependencies"] if entry["targets"][0][1] == "load")
    order = {"fn_index": first["id"], "data": [], "session_hash": "x"}
    answer = browser.post("/gradio_api/run/predict", json=order)
    assert answer.status_code == 200, answer.text
    return "admin" if "admin" in answer.text else None


def test_a_certificate_that_does_not_fit_its_key_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (cert, _), (_, key) = make_certificate(tmp_path), make_certificate(tmp_path / "other")
    done = run(tmp_path / "data", WARA_TLS_CERT=str(cert), WARA_TLS_KEY=str(key))
    assert done.returncode == 2 and "certificate and its key" in done.stderr and "Traceback" not in done.stderr
