"""Options of the page Train about its images and its answers, shown where they can make a difference."""

from __future__ import annotations

from typing import Any

from app.components import forms
from app.components.html import escape

FRAMES = (
    ("", "the middle one (usual)"),
    ("first", "the first one"),
    ("middle", "the middle one"),
    ("all", "all of them"),
)
POINTS = (
    ("", "both errors alike (usual)"),
    ("youden", "both errors alike"),
    ("sensitivity=0.9", "find at least 90 %"),
    ("sensitivity=0.95", "find at least 95 %"),
    ("specificity=0.9", "at most 10 % false alarms"),
    ("specificity=0.95", "at most 5 % false alarms"),
    ("cost=5", "a miss weighs five false alarms"),
    ("cost=10", "a miss weighs ten false alarms"),
)
RULES = (("", "their mean (usual)"), ("mean", "their mean"), ("worst", "the most suspicious one"))
WORDS = ("frames", "operating_point", "patient_rule")


def render_dicom(datasets: list[dict[str, Any]]) -> str:
    """How DICOM files are looked at; only for data sets that hold some."""
    having = [dataset["id"] for dataset in datasets if "DICOM" in (dataset.get("formats") or [])]
    if not having:
        return ""
    fields = forms.select(
        "frames", "Of several images in a file", FRAMES, term="frames", hint="All become images of one patient."
    ) + forms.number(
        "window", "Window", placeholder="1", hint="Which of a file's own windows shows it, where it has several."
    )
    sets = escape(" ".join(having))
    return f'<fieldset class="grid-2" data-sets="{sets}"><legend>DICOM files</legend>{fields}</fieldset>'


def render_answers(datasets: list[dict[str, Any]]) -> str:
    """How probabilities become answers, for images and for patients."""
    two = [dataset["id"] for dataset in datasets if len(dataset.get("classes") or []) == 2]
    point = ""
    if two:
        choice = forms.select(
            "operating_point",
            "Where the answer turns",
            POINTS,
            term="operating point",
            hint="Set on validation images, for the second of two classes. It can be changed after the training.",
        )
        point = f'<fieldset class="plain" data-sets="{escape(" ".join(two))}">{choice}</fieldset>'
    fields = (
        point
        + forms.number(
            "coverage",
            "Certainty of sets",
            term="coverage",
            step="any",
            placeholder="0.9",
            hint="How often the classes that cannot be ruled out are to hold the true one.",
        )
        + forms.select(
            "patient_rule",
            "Several images of a patient",
            RULES,
            term="patient rule",
            hint="The most suspicious one, where one image suffices to show a finding.",
        )
    )
    return f'<fieldset class="grid-2"><legend>Answers</legend>{fields}</fieldset>'
