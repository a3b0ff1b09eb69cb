"""A model for other programs: what each file is for in plain words, and the button that has it made."""

from __future__ import annotations

from typing import Any

from app.client import browser_url
from app.components.html import escape, icon

WITH_ADAPTER = ("wara", "tiny-wara", "lora")
_MADE_OF_SCALES = ("wara", "tiny-wara")


def render_exports(model: dict[str, Any]) -> str:
    """The files that can be taken from a model; a format that its method never has is left out."""
    model_id, method = str(model["id"]), str(model["method"])
    merged = (
        "The whole trained network as one file, for Python with PyTorch and timm. Its numbers are taken over exactly."
    )
    if method in _MADE_OF_SCALES:
        merged += (
            " Possible only without a second opinion, and where training left all scales of detail with the same "
            "weight, which is rare for this method; otherwise you are told so."
        )
    page = escape(browser_url("models", model_id, "card", format="html"))
    whole = escape(browser_url("models", model_id, "download"))
    rows = [
        _row("Model card to print",
             "What the model is for, its data, its test figures and its limits, on a page of its own.",
             f'<a class="button button-quiet" href="{page}" target="_blank" rel="noopener">{icon("card")}'
             "<span>Open the card to print</span></a>"),
        _row("Everything, to keep or to move",
             "A zip of all that training wrote: the adapter or weights, settings, split, figures, predictions. It "
             "holds the names of the image files.",
             f'<a class="button button-quiet" href="{whole}">{icon("download")}<span>Save everything</span></a>'),
        _made(model_id, "onnx", "ONNX file",
              "Runs in most other software, without this app. A zip of the network, of how to prepare an image and "
              "read the answer, and of the model card."),
        _made(model_id, "merged", "Merged weights", merged),
    ]  # fmt: skip
    if method in WITH_ADAPTER:
        rows.append(
            _made(model_id, "peft", "PEFT adapter",
                  "Only the small part that training added, for Python with the PEFT library. It needs the same "
                  "pretrained backbone beside it.")
        )  # fmt: skip
    return (
        '<section class="card" id="models-exports"><h3>Take this model elsewhere</h3>'
        f'<ul class="exports">{"".join(rows)}</ul><p class="hint">In other programs, too, it stays a research tool and '
        "not a medical device. Prediction sets and the warning for unlike images work in this app only.</p></section>"
    )


def _made(model_id: str, kind: str, title: str, meaning: str) -> str:
    """A file that the server has to make first: the script says how long that goes on, and why it was refused."""
    address = escape(browser_url("models", model_id, "export", format=kind))
    label = title[0].lower() + title[1:] if title[1].islower() else title
    action = (
        f'<button type="button" class="button button-quiet" data-export="{address}">{icon("download")}'
        f"<span>Save {escape(label)}</span></button>"
    )
    return _row(title, meaning, action)


def _row(title: str, meaning: str, action: str) -> str:
    return (
        f"<li><div><h4>{escape(title)}</h4><p>{escape(meaning)}</p></div>{action}"
        '<p class="export-state" role="status" data-part="state"></p>'
        '<p class="meter-alert" role="alert" data-part="alert"></p></li>'
    )
