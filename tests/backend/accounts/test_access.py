"""Who may see and change what: what is one's own, what is shared, and nothing else, on every route."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from sqlalchemy import select

from backend.accounts.access import KINDS, PARTS, authorise, limit
from backend.acting import Principal, Role, act_as
from backend.api import router
from backend.db import Dataset, Job, Model
from tests.backend.accounts.support import Ward, ward
from tests.backend.support import API, Studio, as_form, assert_problem, png, study
from tests.backend.tus.support import VERSION, Sender


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with ward(tmp_path_factory.mktemp("access") / "data") as made:
        yield made


@pytest.fixture(scope="module")
def ben(server: Ward) -> Studio:
    return server.studio("ben")


@pytest.fixture(scope="module")
def cleo(server: Ward) -> Studio:
    return server.studio("cleo")


@pytest.fixture(scope="module")
def vera(server: Ward) -> Studio:
    return server.studio("vera")


@pytest.fixture(scope="module")
def dataset(ben: Studio) -> str:
    return str(ben.ready(study(6))["id"])


@pytest.fixture(scope="module")
def job(ben: Studio, dataset: str) -> str:
    made = ben.ended(ben.train(dataset, epochs=1)["id"])
    assert made["state"] == "succeeded", made
    return str(made["id"])


@pytest.fixture(scope="module")
def dora(server: Ward) -> Studio:
    return server.studio("dora")


@pytest.fixture(scope="module")
def own(dora: Studio) -> str:
    """A model of hers."""
    made = dora.ended(dora.train(str(dora.ready(study(6, start=50))["id"]), epochs=1)["id"])
    assert made["state"] == "succeeded", made
    return str(made["id"])


@pytest.fixture(scope="module")
def batch(ben: Studio, job: str) -> str:
    """Of two announced images, one of which was sent."""
    order = {"files": [{"name": name, "size": len(content)} for name, content in IMAGES.items()]}
    made = ben.http.post(f"{API}/models/{job}/batches", json=order)
    assert made.status_code == 201, made.text
    address = f"{API}/batches/{made.json()['id']}"
    assert ben.http.post(f"{address}/files", files=as_form(dict([*IMAGES.items()][:1]))).status_code == 200
    return str(made.json()["id"])


def ids(studio: Studio, kind: str) -> list[str]:
    return [item["id"] for item in studio.http.get(f"{API}/{kind}").json()["items"]]


IMAGES = {"a.png": png(1), "b.png": png(2)}


def test_lists_hold_what_is_ones_own_and_an_admin_sees_all(server: Ward, ben: Studio, cleo: Studio, job: str) -> None:
    admin = server.studio("ada")
    for kind in ("datasets", "jobs", "models"):
        assert len(ids(ben, kind)) == 1 and ids(cleo, kind) == [] and set(ids(admin, kind)) >= set(ids(ben, kind))


def test_among_several_people_an_admin_orders_the_queue(ben: Studio, dataset: str, job: str) -> None:
    assert ben.http.get(f"{API}/jobs/{job}").json()["movable"] is False
    for answer in (
        ben.http.post(f"{API}/jobs/{job}/move", json={"to": "first"}),
        ben.http.put(f"{API}/jobs/{job}/priority", json={"priority": "high"}),
        ben.http.post(f"{API}/jobs", json={"dataset_id": dataset, "backbone": "embedded", "priority": "high"}),
    ):
        assert answer.status_code == 403, answer.text
        assert "Only an admin" in answer.json()["detail"]


# What a query or a body may say without naming an object. A new word must be put here, or into NAMING with the kind
# of object that it names: then the test asks for another one's.
PLAIN = """
    before limit since ask seed cls offset last-event-id criterion theme format of layer name password old new label
    scopes days role disabled file files labels age_band finish finding fix source table sheet columns depth pattern
    label_tag patient_tag rename leave_out image rectangles scope method backbone preset recipe level
    left top right bottom size to priority
"""
NAMING = {
    "a": "model", "b": "model", "model": "model", "compare": "model", "dataset_id": "dataset", "user_id": "account",
}  # fmt: skip


def walk(app: Any) -> Iterator[tuple[str, str, dict[str, Any], set[str]]]:
    """Every route: method, path, its description, and the words of its path, query, headers and body."""
    described = app.openapi()
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            words = {parameter["name"] for parameter in route.get("parameters", [])}
            for content in route.get("requestBody", {}).get("content", {}).values():
                text = json.dumps(content["schema"])
                for name in re.findall(r"#/components/schemas/(\w+)", text):
                    words |= described["components"]["schemas"][name].get("properties", {}).keys()
                words |= content["schema"].get("properties", {}).keys()
            yield method.upper(), path, route, words


def test_every_word_of_every_route_is_known_to_the_check(server: Ward) -> None:
    """A new route cannot bring a name for an object that nobody has thought of."""
    known = set(PLAIN.split()) | NAMING.keys() | PARTS | {f"{kind}_id" for kind in KINDS}
    for method, path, _, words in walk(server.app):
        unknown = words - known
        assert not unknown, f"{method} {path}: say in PLAIN or NAMING what {unknown} is, or in access.py whose it is"


def test_every_route_of_the_api_stands_behind_the_check(server: Ward) -> None:
    """One router holds them all, and asks first; nothing beside it answers under its address."""
    assert [dependency.dependency for dependency in router.dependencies] == [authorise]
    beside = [route for route in server.app.routes if getattr(route, "original_router", None) is not router]
    assert len(beside) == len(server.app.routes) - 1
    assert not [route.path for route in beside if route.path.startswith(API)]


def test_what_belongs_to_somebody_else_is_not_there_on_any_route(
    server: Ward, cleo: Studio, dataset: str, job: str, batch: str
) -> None:
    """Every route with an id in its path, whatever its method; none is left out."""
    values = {"dataset_id": dataset, "job_id": job, "model_id": job, "batch_id": batch}
    values |= {"kind": "model", "object_id": job}
    tried = 0
    for method, path, _, words in walk(server.app):
        if not words & {"dataset_id", "job_id", "model_id", "batch_id", "object_id"} or "{" not in path:
            continue
        address = re.sub(r"{(\w+)}", lambda found: values.get(found[1], "0"), path)
        answer = cleo.http.request(method, address)
        if method == "PUT" and "object_id" in words:  # who it is shared with is asked for first
            answer = cleo.http.put(address, json={"user_id": server.ids["cleo"]})
        assert answer.status_code == 404, (method, path, answer.status_code, answer.text)
        tried += 1
    assert tried > 50
    assert_problem(server.browser("cleo").get(f"{API}/datasets/{dataset}"), 404, "data-set-not-found")


def test_another_ones_things_cannot_be_named_in_a_query_either(
    server: Ward, ben: Studio, dora: Studio, own: str, job: str
) -> None:
    """Beside a model of one's own: on every route whose query names a model."""
    tried = 0
    for method, path, route, _ in walk(server.app):
        queries = [word["name"] for word in route.get("parameters", []) if word["in"] == "query"]
        for name in queries:
            if NAMING.get(name) != "model":
                continue
            others = {other: own for other in queries if other != name and NAMING.get(other) == "model"}
            address = path.replace("{model_id}", own)
            answer = dora.http.request(method, address, params={**others, name: job})
            assert_problem(answer, 404, "model-not-found")
            assert dora.http.request(method, address, params={**others, name: own}).status_code == 200
            tried += 1
    assert tried >= 5
    costs = dora.http.get(f"{API}/models/compare/costs", params=[("model", own), ("model", job)])
    assert_problem(costs, 404, "model-not-found")


def test_another_ones_things_cannot_be_named_in_an_order_either(dora: Studio, dataset: str, own: str) -> None:
    order = {"dataset_id": dataset, "method": "wara", "backbone": "vit_tiny_untrained", "preset": "quick"}
    assert_problem(dora.http.post(f"{API}/jobs", json=order), 404, "data-set-not-found")
    assert_problem(dora.http.post(f"{API}/estimates", json=order), 404, "data-set-not-found")
    batch = dora.http.post(f"{API}/models/{own}/batches", json={"dataset_id": dataset})
    assert_problem(batch, 404, "data-set-not-found")


def test_another_ones_full_training_is_no_reference_for_costs(
    server: Ward, ben: Studio, dora: Studio, own: str, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its name nor its memory is told: a session of a request finds only what its person may see."""
    monkeypatch.setattr("wara.evaluation.costs.memory_comparable", lambda _recipe, _full: True)
    with server.parts.database.session() as session:
        session.get_one(Model, job).method = "full"
    try:
        [item] = dora.http.get(f"{API}/models/compare/costs", params={"model": own}).json()["items"]
        assert item["full"] is None
        [item] = ben.http.get(f"{API}/models/compare/costs", params={"model": job}).json()["items"]
        assert item["full"]["id"] == job
    finally:
        with server.parts.database.session() as session:
            session.get_one(Model, job).method = "wara"


def test_a_session_of_a_request_finds_what_its_person_may_see_whatever_is_asked(
    server: Ward, own: str, job: str
) -> None:
    def found_as(name: str, role: Role) -> tuple[list[str], bool, int]:
        act_as(Principal(server.ids[name], name, role, via="session"))
        with server.parts.database.session() as session:
            limit(session)
            every = sorted(session.scalars(select(Model.id)))
            return every, session.get(Job, job) is not None, len(session.scalars(select(Dataset)).all())

    assert copy_context().run(found_as, "dora", "member") == ([own], False, 1)
    assert copy_context().run(found_as, "ben", "member") == ([job], True, 1)
    assert copy_context().run(found_as, "vera", "viewer") == ([], False, 0)
    assert copy_context().run(found_as, "ada", "admin") == (sorted([own, job]), True, 2)


def test_a_path_that_names_what_no_rule_knows_is_refused_to_everybody() -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "path_params": {"secret_id": "1"}}
    with pytest.raises(RuntimeError, match="secret_id"):
        authorise(Request(scope))


def test_another_ones_upload_can_neither_be_seen_nor_gone_on_with(ben: Studio, cleo: Studio, tmp_path: Path) -> None:
    owner, other = Sender(ben, tmp_path), Sender(cleo, tmp_path)
    draft = owner.dataset()
    address = owner.begun(draft, 5, path="a.png")
    assert cleo.http.head(address, headers=VERSION).status_code == 404
    assert_problem(other.patch(address, 0, b"12345"), 404, "data-set-not-found")
    assert_problem(cleo.http.delete(address, headers=VERSION), 404, "data-set-not-found")
    assert_problem(other.begin(draft, 5), 404, "data-set-not-found")
    assert owner.offset(address) == 0
    assert ben.http.delete(f"{API}/datasets/{draft}").status_code == 204


def test_two_people_may_have_the_same_folder_and_do_not_learn_of_each_other(cleo: Studio, dataset: str) -> None:
    own = cleo.ready(study(6))
    assert own["id"] != dataset and own["name"] == "study"
    assert_problem(cleo.upload(study(6)), 409, "dataset-exists")
    assert cleo.http.delete(f"{API}/datasets/{own['id']}").status_code == 204


def test_a_share_lets_look_or_also_change_and_can_be_taken_back(
    server: Ward, ben: Studio, cleo: Studio, dataset: str
) -> None:
    people = {person["name"]: person["id"] for person in ben.http.get(f"{API}/people").json()}
    address = f"{API}/shares/dataset/{dataset}"
    shared = ben.http.put(address, json={"user_id": people["cleo"]})
    assert shared.json() | {"id": ""} == {"id": "", "user_id": people["cleo"], "name": "cleo", "level": "view"}
    assert ids(cleo, "datasets") == [dataset]
    assert cleo.http.get(f"{API}/datasets/{dataset}/report").status_code == 200
    assert {key: cleo.dataset(dataset)[key] for key in ("access", "owner")} == {"access": "view", "owner": "ben"}
    assert {key: ben.dataset(dataset)[key] for key in ("access", "owner")} == {"access": "own", "owner": None}
    decision = {"finding": "none", "fix": "drop"}
    assert_problem(cleo.http.post(f"{API}/datasets/{dataset}/decisions", json=decision), 403, "not-yours")
    ben.http.put(address, json={"user_id": people["cleo"], "level": "edit"})
    assert cleo.http.post(f"{API}/datasets/{dataset}/decisions", json=decision).status_code == 422
    assert_problem(cleo.http.delete(f"{API}/datasets/{dataset}"), 403, "not-yours")
    assert_problem(cleo.http.get(address), 403, "not-yours")
    [share] = ben.http.get(address).json()
    assert ben.http.delete(f"{address}/{share['id']}").status_code == 204
    assert ids(cleo, "datasets") == []


def test_an_upload_that_another_finished_is_still_its_owners(server: Ward, ben: Studio, cleo: Studio) -> None:
    """Who finished it for its owner may send the same folder for themselves, and hears nothing of the owner's."""
    begun = ben.upload(study(5, start=700), finish="false").json()["id"]
    address = f"{API}/shares/dataset/{begun}"
    share = ben.http.put(address, json={"user_id": server.ids["cleo"], "level": "edit"}).json()["id"]
    assert cleo.http.post(f"{API}/datasets/{begun}/finish").status_code == 202
    assert ben.http.delete(f"{address}/{share}").status_code == 204
    own = cleo.ready(study(5, start=700))
    assert own["id"] != begun
    answer = ben.upload(study(5, start=700))
    assert assert_problem(answer, 409, "dataset-exists")["existing"] == begun
    for studio, identifier in ((ben, begun), (cleo, own["id"])):
        studio.checked(identifier)
        assert studio.http.delete(f"{API}/datasets/{identifier}").status_code == 204


def test_a_viewer_classifies_with_what_is_shared_and_changes_nothing(
    server: Ward, ben: Studio, vera: Studio, dataset: str, job: str
) -> None:
    assert_problem(vera.upload(study(2)), 403, "not-allowed")
    assert_problem(vera.http.post(f"{API}/datasets/demo"), 403, "not-allowed")
    for kind, identifier in (("model", job), ("dataset", dataset)):
        order = {"user_id": server.ids["vera"], "level": "edit"}
        assert ben.http.put(f"{API}/shares/{kind}/{identifier}", json=order).status_code == 200
    images = as_form(dict(list(study(1).items())[:1]))
    assert vera.http.post(f"{API}/models/{job}/predict", files=images).status_code == 200
    assert_problem(vera.http.delete(f"{API}/models/{job}"), 403, "not-allowed")
    assert_problem(vera.http.post(f"{API}/jobs/{job}/cancel"), 403, "not-allowed")


def test_a_batch_is_its_makers_alone_even_where_the_model_is_shared(
    server: Ward, ben: Studio, vera: Studio, job: str, batch: str
) -> None:
    """What was classified is not shared by sharing what it was classified with."""
    order = {"user_id": server.ids["vera"]}
    share = ben.http.put(f"{API}/shares/model/{job}", json=order).json()["id"]
    assert ids(vera, "batches") == [] and ids(ben, "batches") == [batch]
    assert ids(server.studio("ada"), "batches") == [batch]
    assert_problem(vera.http.get(f"{API}/batches/{batch}"), 404, "batch-not-found")
    announced = {"files": [{"name": "a.png", "size": len(IMAGES["a.png"])}]}
    own = vera.http.post(f"{API}/models/{job}/batches", json=announced).json()["id"]
    program = server.program("vera", "predict")
    assert program.get(f"{API}/batches/{own}").json()["state"] == "receiving"
    assert_problem(server.program("vera", "read").post(f"{API}/batches/{own}/cancel"), 403, "not-allowed")
    assert ben.http.delete(f"{API}/shares/model/{job}/{share}").status_code == 204
    late = program.post(f"{API}/batches/{own}/files", files=as_form(dict([*IMAGES.items()][:1])))
    assert_problem(late, 404, "model-not-found")
    assert vera.http.delete(f"{API}/batches/{own}").status_code == 204


def test_a_token_reaches_as_far_as_its_scopes_and_its_role(server: Ward, ben: Studio, job: str) -> None:
    reading, predicting = server.program("ben", "read"), server.program("ben", "predict")
    assert reading.get(f"{API}/models").status_code == 200
    assert_problem(reading.post(f"{API}/datasets/demo"), 403, "not-allowed")
    images = as_form(dict(list(study(1).items())[:1]))
    assert_problem(reading.post(f"{API}/models/{job}/predict", files=images), 403, "not-allowed")
    assert predicting.post(f"{API}/models/{job}/predict", files=images).status_code == 200
    assert_problem(predicting.get(f"{API}/models"), 403, "not-allowed")
    order = {"label": "x", "scopes": ["admin"], "days": 1}
    assert_problem(ben.http.post(f"{API}/me/tokens", json=order), 422, "token-scope")
    assert_problem(server.program("ben", "write").post(f"{API}/me/tokens", json=order), 403, "not-allowed")


def test_only_an_admin_sees_accounts_and_the_audit_log(server: Ward, ben: Studio) -> None:
    order = {"name": "mallory", "password": "correct horse battery", "role": "admin"}
    assert_problem(ben.http.post(f"{API}/accounts", json=order), 403, "not-allowed")
    for path in ("accounts", "audit", "audit.csv"):
        assert_problem(ben.http.get(f"{API}/{path}"), 403, "not-allowed")
    assert_problem(server.program("ada", "read").get(f"{API}/audit"), 403, "not-allowed")
    assert {account["name"] for account in server.browser("ada").get(f"{API}/accounts").json()} == set(server.ids)


@pytest.mark.parametrize(
    ("method", "path", "order"),
    [
        ("PATCH", "accounts/{vera}", {"disable": True}),
        ("POST", "accounts", {"name": "eve", "password": "correct horse battery", "roles": "viewer"}),
        ("POST", "me/tokens", {"label": "t", "expires_days": 1}),
        ("PUT", "shares/dataset/none", {"user_id": "u", "levels": "view"}),
        ("PUT", "me/password", {"old": "a", "new": "b", "again": "c"}),
        ("POST", "session", {"name": "ada", "password": "a", "days": 1}),
    ],
)
def test_a_word_that_an_order_does_not_know_is_refused_and_nothing_is_done(
    server: Ward, method: str, path: str, order: dict[str, object]
) -> None:
    answer = server.browser("ada").request(method, f"{API}/{path.format(**server.ids)}", json=order)
    problem = assert_problem(answer, 422, "field-invalid")
    assert next(iter(set(order) - {"name", "password", "label", "user_id", "old", "new"})) in problem["detail"]


def test_the_last_admin_cannot_go(server: Ward) -> None:
    admin, address = server.browser("ada"), f"{API}/accounts/{server.ids['ada']}"
    assert_problem(admin.delete(address), 409, "last-admin")
    assert_problem(admin.patch(address, json={"role": "member"}), 409, "last-admin")
    assert_problem(admin.patch(address, json={"disabled": True}), 409, "last-admin")


def test_the_audit_log_says_who_did_what_and_cannot_be_changed(server: Ward, ben: Studio, job: str) -> None:
    ben.http.get(f"{API}/models/{job}/download")
    admin = server.browser("ada")
    lines = admin.get(f"{API}/audit", params={"limit": 500}).json()
    seen = {(line["user_name"], line["action"], line["object_kind"], line["object_id"]) for line in lines}
    assert ("ben", "download_model", "model", job) in seen
    assert ("ada", "sign_in", "account", server.ids["ada"]) in seen
    with pytest.raises(Exception, match="append only"), server.parts.database.session() as session:
        session.connection().exec_driver_sql("DELETE FROM audit")
    with pytest.raises(Exception, match="append only"), server.parts.database.session() as session:
        session.connection().exec_driver_sql("UPDATE audit SET user_name = 'x'")
    text = admin.get(f"{API}/audit.csv").text
    assert text.splitlines()[0] == "number,at,account,name,via,action,object_kind,object,status"
    assert len(text.splitlines()) > len(lines)


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0", "yesterday", ""])
def test_a_moment_that_the_audit_log_cannot_have_is_refused_before_anything_is_sent(server: Ward, since: str) -> None:
    answer = server.browser("ada").get(f"{API}/audit.csv", params={"since": since})
    assert_problem(answer, 422, "field-invalid")


@pytest.mark.parametrize(
    "since", ["0002-01-01", "2026-11-26", "2026-11-26T09:00:00+01:00", "9998-12-31T23:59:59-14:00"]
)
def test_the_audit_log_goes_back_to_a_day_or_a_moment(server: Ward, since: str) -> None:
    answer = server.browser("ada").get(f"{API}/audit.csv", params={"since": since})
    assert answer.status_code == 200 and answer.text.startswith("number,at,")
