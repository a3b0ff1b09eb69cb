"""Another operating point than the training's own: stored beside the run, used, said in the card, and taken back."""

import json

import numpy as np
import pytest

from tests.wara.evaluation.support import answered
from tests.wara.evaluation.test_review import write_run
from wara.errors import InputError
from wara.evaluation import card_page
from wara.evaluation.answers import Answers
from wara.evaluation.point_in_use import FILE, HEADING, answers_in_use, read_point
from wara.evaluation.review import review, use_point

CARD = "# Card\n\n## Results\n\nfigures\n\n## Limits, bias and risks\n\n- one\n"


@pytest.fixture
def run(tmp_path):
    folder = write_run(tmp_path / "run", *answered(per_patient=4), ["no", "<yes>"])
    (folder / "card.md").write_text(CARD)
    (folder / card_page.FILE).write_text(card_page.card_page(CARD))
    return folder


def test_a_chosen_point_is_used_measured_and_said_and_the_training_stays_as_it_was(run):
    before = (run / "calibration.json").read_bytes(), (run / "predictions.csv").read_bytes()
    own = review(run)
    assert own["operating_point"]["in_use"] and own["operating_point"]["from_training"] and own["measured"] is None
    asked = review(run, "sensitivity=0.99")
    assert not asked["operating_point"]["in_use"] and not asked["operating_point"]["from_training"]
    assert read_point(run) is None

    use_point(run, "sensitivity=0.99")
    assert answers_in_use(run).threshold == asked["operating_point"]["threshold"] < own["operating_point"]["threshold"]
    found = review(run)
    assert found["operating_point"]["in_use"] and not found["operating_point"]["from_training"]
    assert found["confusion"] == asked["confusion"]
    measured = found["measured"]
    assert measured["confusion"] == found["confusion"]["matrix"]
    assert measured["patients"]["n_images"] == 60
    assert not review(run, "youden")["operating_point"]["in_use"]
    assert review(run, "youden")["confusion"] == own["confusion"]
    card = (run / "card.md").read_text()
    assert card.index(HEADING) < card.index("## Limits, bias and risks") and "sensitivity of at least 99%" in card
    assert r"called \<yes\>" in card and "<yes>" not in card
    page = (run / card_page.FILE).read_text()
    assert "Operating point in use" in page and "&lt;yes&gt;" in page and "<yes>" not in page
    assert ((run / "calibration.json").read_bytes(), (run / "predictions.csv").read_bytes()) == before

    use_point(run, "cost=5")
    assert (run / "card.md").read_text().count(HEADING) == 1
    use_point(run, None)
    assert (run / "card.md").read_text() == CARD and not (run / FILE).exists()
    assert (run / card_page.FILE).read_text() == card_page.card_page(CARD)
    assert answers_in_use(run) == Answers.load(run / "calibration.json")


def test_the_rule_of_the_training_is_the_training_s_own_point(run):
    use_point(run, "specificity=0.9")
    use_point(run, "youden")
    assert read_point(run) is None and review(run)["operating_point"]["from_training"]


def test_figures_that_no_threshold_changes_stay_as_they_are(run):
    strict, lenient = (review(run, rule)["measured"] for rule in ("sensitivity=0.99", "specificity=0.99"))
    assert strict["auroc"] == lenient["auroc"]
    assert strict["sensitivity"]["<yes>"]["value"] > lenient["sensitivity"]["<yes>"]["value"]


def test_patients_are_measured_at_the_same_threshold(run):
    point, side = review(run)["operating_point"], answered(per_patient=4)[0]["test"]
    means = side.probabilities[:, 1].reshape(60, 4).mean(axis=1)
    ill = side.targets.reshape(60, 4).max(axis=1) == 1
    assert point["patients"]["sensitivity"]["value"] == pytest.approx(np.mean(means[ill] >= point["threshold"]))
    assert point["patients"]["specificity"]["n"] == (~ill).sum()


def test_a_card_without_the_usual_headings_gets_the_section_at_its_end(run):
    (run / "card.md").write_text("# Card\n")
    use_point(run, "specificity=0.9")
    assert (run / "card.md").read_text().startswith(f"# Card\n\n{HEADING}\n")
    use_point(run, None)
    assert (run / "card.md").read_text() == "# Card\n"


def test_a_rule_that_cannot_be_used_changes_nothing(run):
    with pytest.raises(InputError, match="cannot be used"):
        use_point(run, "best")
    assert not (run / FILE).exists() and (run / "card.md").read_text() == CARD


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"format": 2}), json.dumps({"format": 1}), "\udcff"])
def test_a_damaged_file_is_refused(run, content):
    (run / FILE).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="cannot be read"):
        answers_in_use(run)
