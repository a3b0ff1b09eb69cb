"""What is shared to look at has no buttons that would be refused; whoever may change it has all of them."""

import pytest

from app.components import mapping, operating, sharing
from app.components.findings import render_decisions, render_findings
from app.pages.data import render_dataset
from app.pages.models import render_models
from tests.app.support import ALONE, LOOKER, evaluation
from tests.app.test_pages import dataset, report

IMAGES = {"items": [], "total": 0}
CHOICE = {"cls": None, "offset": 0}
DECIDING = ('data-action="fix"', 'data-action="undo"', 'data-action="map"')


@pytest.mark.parametrize(("access", "may"), [(None, True), ("own", True), ("edit", True), ("view", False)])
def test_the_buttons_of_a_data_set_are_those_that_may_be_pressed(access: str | None, may: bool) -> None:
    html = render_dataset(dataset(access=access), report(), IMAGES, CHOICE)
    assert [mark in html for mark in DECIDING] == [may] * 3


def test_a_data_set_without_labels_that_is_only_seen_asks_its_owner() -> None:
    waiting = dataset(status="mapping", access="view")
    assert not mapping.wanted(waiting, {}) and mapping.wanted(waiting | {"access": "edit"}, {})
    assert "Its owner can say" in mapping.render_head(waiting)


def test_a_finding_of_text_offers_no_covering_where_nothing_may_be_changed() -> None:
    finding = report()["findings"][0] | {"kind": "text"}
    assert 'data-action="mask"' in render_findings("d1", {"findings": [finding]})
    assert "<button" not in render_findings("d1", {"findings": [finding]}, change=False)
    assert "<button" not in render_decisions("d1", report(), change=False)


@pytest.mark.parametrize("point", [{"in_use": False, "from_training": False}, {"from_training": False}])
def test_an_operating_point_of_somebody_else_is_tried_and_not_put_to_use(point: dict[str, bool]) -> None:
    known = evaluation()
    known["operating_point"] |= point
    assert "<button" in operating.render_point(known, "m1", "cost=5")
    assert "<button" not in operating.render_point(known, "m1", "cost=5", change=False)


def test_an_account_writes_by_its_role_and_everybody_does_without_accounts() -> None:
    assert sharing.may_write({"id": None, "scopes": []}) and sharing.may_write({"id": "u", "scopes": ["read", "write"]})
    assert not sharing.may_write({"id": "u", "scopes": ["predict", "read"]})


def test_who_trains_nothing_is_not_sent_to_train_for_want_of_a_model() -> None:
    looks = render_models([], LOOKER)
    assert 'href="#train"' not in looks and "No model is shared with you yet" in looks
    assert 'href="#train"' in render_models([], ALONE) and "No models yet" in render_models([], ALONE)
