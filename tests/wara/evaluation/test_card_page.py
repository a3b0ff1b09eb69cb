"""The model card as a page to print: it needs nothing from outside, runs nothing, and takes no name for markup."""

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.wara.evaluation.test_card import CLASSES, RECIPE, assessed, metrics, report
from wara.analysis.style import to_png
from wara.evaluation.card import render_card
from wara.evaluation.card_page import card_page, figures_of
from wara.evaluation.figures import draw_confusion
from wara.training import outputs

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "[a](javascript:alert(1))", "| --- |",
]  # fmt: skip


class Reader(HTMLParser):
    """The elements with their attributes, and the text of the body."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    measured = assessed(criterion="sensitivity=0.9")
    png = to_png(draw_confusion(measured["test"], CLASSES))
    return card_page(render_card(RECIPE, measured, report()), {"confusion": png})


def test_page_holds_what_the_markdown_holds(page):
    text = " ".join(Reader(page).text.split())
    for heading in (
        "Intended use", "Data", "Findings of the data report", "Split", "Training procedure", "Versions", "Results",
        "Operating point", "Calibration", "Subgroups", "Limits, bias and risks", "How to load it", "Figures",
    ):  # fmt: skip
        assert re.search(rf"<h[23] id=\"[a-z-]+\">{heading}</h[23]>", page), heading
    assert "A research tool, not a medical device." in text and "73,812" in text and "PNEUMONIA" in text
    assert "\\" not in text  # Markdown's own escapes are gone


def test_page_is_one_file_that_loads_and_runs_nothing(page):
    found = Reader(page).elements
    assert {"script", "link", "iframe", "object", "form", "base"}.isdisjoint(tag for tag, _ in found)
    addresses = [value for _, attributes in found for key, value in attributes.items() if key in ("src", "href")]
    assert len(addresses) == 1 and addresses[0].startswith("data:image/png;base64,")
    assert "url(" not in page and "@import" not in page and "http" not in re.sub(r"http-equiv", "", page)
    assert ("html", {"lang": "en"}) in found
    assert all(attributes.get("alt") for tag, attributes in found if tag == "img")
    headings = [int(tag[1]) for tag, _ in found if re.fullmatch(r"h\d", tag)]
    assert headings.count(1) == 1 and max(b - a for a, b in itertools.pairwise(headings)) == 1


def test_names_of_classes_stay_text():
    data = report()
    for side in data["splits"].values():
        side["classes"] = dict.fromkeys(HOSTILE, 10)
    reader = Reader(card_page(render_card(RECIPE | {"classes": HOSTILE}, metrics(HOSTILE), data)))
    assert {"script", "img", "a", "b"}.isdisjoint(tag for tag, _ in reader.elements)
    for name in HOSTILE:
        assert name in reader.text


def test_a_run_folder_gets_both_cards_and_an_older_one_its_page_when_it_is_asked_for(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "history.png").write_bytes(to_png(draw_confusion(metrics()["test"], CLASSES)))
    (tmp_path / "figures" / "other.png").write_bytes(b"not of the card")
    outputs.write_card(tmp_path, "# Card\n\nText\n")
    assert (tmp_path / "card.md").read_text() == "# Card\n\nText\n"
    written = (tmp_path / "card.html").read_text()
    assert written.count("<img") == 1 and list(figures_of(tmp_path / "figures")) == ["history"]
    (tmp_path / "card.html").unlink()
    assert outputs.read_card_page(tmp_path) == written


@pytest.mark.parametrize("classes", [CLASSES, [f"a rather long name of a class, {i}" for i in range(20)]], ids=len)
def test_printed_on_a4_no_table_is_clipped(classes, chromium, tmp_path):
    from playwright.sync_api import sync_playwright

    data, rng = report(), np.random.default_rng(0)
    for side in data["splits"].values():
        side["classes"] = {name: int(rng.integers(1, 9_999)) for name in classes}
    measured = metrics(classes, 200)
    row = {"n_images": 120, "auroc": measured["test"]["auroc"], "sensitivity": measured["test"]["sensitivity"]}
    rows = [row | {"value": value} for value in "FM"]
    measured["subgroups"] = {"sex": {"rows": rows, "unknown": 3, "reading": "No difference was found."}}
    page_file = tmp_path / "card.html"
    page_file.write_text(card_page(render_card(RECIPE | {"classes": classes}, measured, data)), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        tab = browser.new_page(viewport={"width": 673, "height": 1123})  # what A4 leaves between the margins
        tab.goto(page_file.as_uri())
        tab.emulate_media(media="print")
        over = tab.evaluate(
            """across => [...document.querySelectorAll('table, pre, p, figure')].filter(node => {
                const wide = node.closest('.across') !== null;
                return wide === across && node.getBoundingClientRect().right > document.documentElement.clientWidth + 1;
            }).length""",
            False,
        )
        tab.set_viewport_size({"width": 1016, "height": 794})  # the page across
        across = tab.evaluate(
            """() => [...document.querySelectorAll('.across table')]
                .map(node => node.getBoundingClientRect().right - document.documentElement.clientWidth)"""
        )
        pdf = tab.pdf(prefer_css_page_size=True, print_background=True)
        browser.close()
    assert over == 0
    assert all(beyond <= 1 for beyond in across) and len(across) == (len(classes) > 13)
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
