"""Log lines: each names its request; as JSON each is one object."""

from __future__ import annotations

import json
import logging

import pytest

from backend import logs
from tests.backend.support import API, Studio


def test_the_answer_and_the_log_have_the_same_id(studio: Studio, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "backend.access")
    caplog.handler.addFilter(logs._name_request)
    answer = studio.http.get(f"{API}/health")
    line = next(record for record in caplog.records if record.name == "backend.access")
    assert line.__dict__["request"] == answer.headers["x-request-id"]
    assert logs.request_id.get() == logs.NO_REQUEST


@pytest.mark.parametrize(
    ("asked", "kept"), [("0af7651916cd43dd8448eb211c80319c", True), ("short", False), ("a b\x1b[31m" * 2, False)]
)
def test_the_id_of_a_proxy_is_kept_where_it_is_one(studio: Studio, asked: str, kept: bool) -> None:
    answer = studio.http.get(f"{API}/health", headers={"x-request-id": asked})
    assert (answer.headers["x-request-id"] == asked) is kept


def test_a_line_as_json_is_one_object_with_the_request_s_members() -> None:
    record = logging.LogRecord("backend.access", logging.INFO, "", 0, "%s\n%s", ("GET", "x"), None)
    record.__dict__.update(request="abc", method="GET", route="/x", status=200, milliseconds=3)
    written = logs.JsonLines().format(record)
    assert "\n" not in written
    line = json.loads(written)
    assert line["message"] == "GET\nx" and line["request"] == "abc" and line["level"] == "info"
    assert (line["method"], line["route"], line["status"], line["milliseconds"]) == ("GET", "/x", 200, 3)
