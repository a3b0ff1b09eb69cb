"""What the model card says of the data: counts, files, what the data report found, what was decided, the split."""

from __future__ import annotations

import re

from wara.data.findings import UNREADABLE
from wara.data.words import SIDE_NAMES
from wara.evaluation.markdown import Fields, code, count, table, text

_PATIENTS_TOGETHER = "All images of a patient stand in one part."
_PATIENTS_NOT_KNOWN = (
    "No patient numbers were known, so images of one patient may stand in several parts; "
    "the results may then be too good."
)
_NOTHING_FOUND = (
    "Nothing was found: no patient and no copy of an image on two sides of the split, no copies with different labels, "
    "no other size, brightness or file format on one side than in training, and no class too small for an interval."
)
_SEVERITIES = {"serious": "Serious", "warning": "Warning", "note": "Note"}
_DID = {
    "drop": "left out", "move": "moved to another part", "group": "counted as one patient's",
    "accept": "looked at and found to be in order", "mask": "masked where text stood in the picture",
}  # fmt: skip
_MOST_REASONS = 6


def data(recipe: Fields, report: Fields) -> str:
    """Return the section on the data, without a name of a file or a patient.

    Args:
        recipe: what recipe.json holds.
        report: the data report of the training, see :func:`wara.data.report.data_report`.
    """
    known = report.get("patients") is not None
    lines = [
        "## Data",
        f"{count(report.get('images'))} images"
        + (f" of {count(report['patients'])} patients" if known else ", patients not known")
        + f"; fingerprint of the data {code(str(recipe['data']['fingerprint'])[:16])}.{_files(report)}",
        _passed_over(report),
        *_findings(report),
        *_decided(report),
        "### Split",
        _split(recipe, report, known),
        _how_it_was_split(report, known),
    ]
    return "\n\n".join(line for line in lines if line)


def _files(report: Fields) -> str:
    formats = ", ".join(f"{text(name)} ({count(number)})" for name, number in (report.get("formats") or {}).items())
    sizes = report.get("sizes")
    words = f" File formats: {formats}." if formats else ""
    if sizes:
        small, middle, large = (f"{sizes[key][0]} x {sizes[key][1]}" for key in ("smallest", "median", "largest"))
        span = f" Sizes from {small} to {large} pixels, the middle one {middle}."
        words += f" All have {small} pixels." if small == large else span
    return words


def _passed_over(report: Fields) -> str:
    passed = report.get("passed_over", {})
    number = passed.get("count", 0)
    if not number:
        return ""
    counts: dict[str, int] = {}
    for reason, times in (passed.get("reasons") or {}).items():
        counts[_kind_of(reason)] = counts.get(_kind_of(reason), 0) + times
    reasons = list(counts.items())
    words = "; ".join(f"{count(times)}: {text(reason)}" for reason, times in reasons[:_MOST_REASONS])
    more = "; and other reasons" if len(reasons) > _MOST_REASONS else ""
    could = "1 file was not used and was passed over" if number == 1 else (
        f"{count(number)} files could not be used and were passed over"
    )  # fmt: skip
    return f"{could}{f' ({words}{more})' if words else ''}."


def _kind_of(reason: str) -> str:
    """Return a reason without what it quotes of a file's name or label: a card is passed on, names are not."""
    return re.sub(r" (\([^)]*\)$|'[^']*')", "", reason)


def _findings(report: Fields) -> list[str]:
    """What the data report found; nothing for runs of before there were findings."""
    found = report.get("findings")
    if found is None:
        return []
    after = ", after the decisions below" if report.get("decisions") else ""
    points = "\n".join(
        f"- **{_SEVERITIES.get(finding['severity'], text(finding['severity']))}.** {text(finding['sentence'])}"
        for finding in found
        if finding["kind"] != UNREADABLE  # told above
    )
    when = f"As the data stood when training began{after}."
    return ["### Findings of the data report", when, points or _NOTHING_FOUND]


def _decided(report: Fields) -> list[str]:
    """What a person changed about the data before training, from the findings of the data report."""
    points = [
        f"{count(d['images'])} {'image' if d['images'] == 1 else 'images'} {_DID[d['fix']]} ({text(d['finding'])})"
        for d in report.get("decisions", [])
    ]
    if not points:
        return []
    return ["### Decisions", f"Decided on the findings of the data report: {'; '.join(points)}."]


def _split(recipe: Fields, report: Fields, known: bool) -> str:
    classes = [str(name) for name in recipe["classes"]]
    rows = []
    for side, entry in report.get("splits", {}).items():
        if not entry:
            continue
        counts = entry.get("classes", {})
        patients = [count(entry.get("patients"))] if known else []
        rows.append([SIDE_NAMES.get(side, side), count(entry.get("images")), *patients,
                     *(count(counts.get(name, 0)) for name in classes)])  # fmt: skip
    head = ["part", "images", *(["patients"] if known else []), *map(text, classes)]
    return table(head, rows, turn=True) if rows else ""


def _how_it_was_split(report: Fields, known: bool) -> str:
    source = report.get("split_source")
    made = _PATIENTS_TOGETHER if known else _PATIENTS_NOT_KNOWN
    into_test = leaks_into_test(report)
    across = (
        f" {count(into_test)} {'patient has' if into_test == 1 else 'patients have'} images in the test part and in "
        "another one." if into_test else ""
    )  # fmt: skip
    if source == "given":
        return f"The division into parts came with the data.{across}"
    if source == "completed":
        return f"A part of the division came with the data; the rest was drawn from its training images. {made}{across}"
    return f"The division into parts was drawn at random, in equal proportions of the classes. {made}"


def leaks_into_test(report: Fields) -> int:
    """Return how many patients have images in the test part and in another one."""
    return sum("test" in leak["splits"] for leak in report.get("leaks", []))
