"""The data report in a real browser: a finding, its images, its fix, and the decision taken back."""

from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.support import Studio, Watch, artefacts, draw


def leaking(root: Path) -> Path:
    """Draw images of 24 patients in a given split; two of the test part's patients are in training too."""
    paths = draw(root / "images", {"wide": 24, "narrow": 24})
    rows = []
    for place, path in enumerate(paths):
        number = place % 24
        side = "train" if number < 12 else "val" if number < 18 else "test"
        patient = {12: "p00", 18: "p01"}.get(number, f"p{number:02d}") if place < 24 else f"q{number:02d}"
        rows.append(f"{path.relative_to(root).as_posix()},{path.parent.name},{patient},{side}")
    copy = paths[0].with_name("copy.png")
    copy.write_bytes(paths[0].read_bytes())
    rows.append(f"{copy.relative_to(root).as_posix()},wide,q99,test")
    (root / "labels.csv").write_text("\n".join(["file,label,patient,split", *rows]))
    return root


def test_a_finding_is_shown_fixed_and_the_decision_undone(studio: Studio, watch: Watch, tmp_path: Path) -> None:
    page = studio.page
    studio.open()
    studio.upload(leaking(tmp_path / "films"))
    detail = studio.uploaded(49)
    leaks = detail.locator("section[data-finding=leaks]")
    expect(leaks).to_contain_text("1 patient has images in the test part and in another one")
    expect(leaks).to_contain_text("1 patient has images in both training and validation")
    expect(leaks.locator(".lightbox figure")).to_have_count(4)
    leaks.locator("img").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('[data-finding=leaks] img').naturalWidth > 0")
    copies = detail.locator("section[data-finding=copies-across]")
    expect(copies.locator("figure")).to_have_count(2)
    folder = artefacts("findings")
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / "findings.png", full_page=True)

    leaks.get_by_role("button", name="Move to one side").click()
    expect(detail.locator("section[data-finding=leaks]")).to_have_count(0)
    decisions = detail.locator("#data-decisions")
    expect(decisions).to_contain_text("Patients on two sides: 2 images moved to one side")
    copies.get_by_role("button", name="Leave images out").click()
    expect(decisions.locator("li")).to_have_count(2)
    expect(detail.locator(".tile").first).to_contain_text("48")
    page.screenshot(path=folder / "decided.png", full_page=True)
    page.reload()
    expect(decisions.locator("li")).to_have_count(2)

    decisions.locator("li").first.get_by_role("button", name="Undo").click()
    expect(leaks).to_be_visible()
    expect(decisions.locator("li")).to_have_count(1)
    decisions.get_by_role("button", name="Undo").click()
    expect(decisions).to_have_count(0)
    expect(detail.locator(".tile").first).to_contain_text("49")
    studio.nothing_is_cut_off()
