"""Which images a model took for what: the confusion matrix as a table of buttons, the images of a cell, its errors."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components.html import alert, button, escape

SHOWN_OPENLY = 12


def render_confusion(evaluation: dict[str, Any], model_id: str, cell: dict[str, str] | None = None) -> str:
    """The matrix; each cell with images is a button that opens them.

    Args:
        evaluation: what the backend knows of the test images.
        model_id: the model.
        cell: true class (``label``) and given one (``predicted``) of the cell that is open.
    """
    classes, matrix = evaluation["classes"], evaluation["confusion"]["matrix"]
    head = "".join(f'<th scope="col">called {escape(name)}</th>' for name in classes)
    rows = ""
    for place, name in enumerate(classes):
        total = sum(matrix[place])
        cells = "".join(
            _cell(count, total, model_id, name, called, same=place == column, cell=cell)
            for column, (called, count) in enumerate(zip(classes, matrix[place], strict=True))
        )
        images = f"<small>{words.plural(total, 'image')}</small>"
        rows += f'<tr><th scope="row">truly {escape(name)} {images}</th>{cells}</tr>'
    point = evaluation["operating_point"]
    at = f" at a threshold of {words.score(point['threshold'])}" if point else ""
    return (
        f'<section class="card" aria-label="Confusion matrix"><h3>Right and wrong <small>confusion matrix{at}</small>'
        f'</h3><p class="hint">{escape(evaluation["confusion"]["reading"])} Press a number to see its images.</p>'
        '<div class="table-wrap"><table class="confusion"><caption class="sr-only">Test images by true class and by '
        f'the class that the model gave</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></section>"
    )  # fmt: skip


def _cell(
    count: int, total: int, model_id: str, label: str, called: str, *, same: bool, cell: dict[str, str] | None
) -> str:
    share = count / total if total else 0.0
    look = "right" if same else "wrong"
    if not count:
        return '<td class="cell-none">0</td>'
    pressed = cell is not None and (cell["label"], cell["predicted"]) == (label, called)
    said = f"{'image' if count == 1 else 'images'} truly {label}, called {called}: show"
    # The shade says how much of the row stands here; the number says it too.
    return (
        f'<td><button type="button" class="cell cell-{look}" style="--share:{share:.2f}" data-action="cell"'
        f' data-id="{escape(model_id)}" data-label="{escape(label)}" data-predicted="{escape(called)}"'
        f' aria-pressed="{"true" if pressed else "false"}"><b>{words.count(count)}</b> '
        f'<span class="sr-only">{escape(said)}</span><small>{words.percent(share)}</small></button></td>'
    )


def render_cell(evaluation: dict[str, Any], model_id: str, cell: dict[str, str], reveal: str) -> str:
    """The images of one cell, the surest first.

    Args:
        evaluation: what the backend knows of the test images.
        model_id: the model.
        cell: true class (``label``) and given one (``predicted``).
        reveal: changes with every opening, so that the page moves there once.
    """
    found = next(
        (
            entry
            for entry in evaluation["confusion"]["cells"]
            if (entry["label"], entry["predicted"]) == (cell["label"], cell["predicted"])
        ),
        None,
    )
    if found is None:
        return alert("There is no image here at this threshold.", kind="info")
    label, called = found["label"], found["predicted"]
    images = [
        _figure(evaluation["images"].get(file), file, f"truly {label}, called {called}", words.percent(probability))
        for file, probability in zip(found["files"], found["probabilities"], strict=True)
    ]
    rest = found["n"] - len(found["files"])
    close = button("Close these images", "close-cell", look="icon", mark="close", id=model_id)
    return (
        '<section class="card" id="models-cell"><div class="title-row">'
        f'<h3 tabindex="-1" data-reveal="{escape(reveal)}">'
        f"{words.plural(found['n'], 'image')}: truly {escape(label)}, called {escape(called)}</h3>{close}</div>"
        f'<p class="hint">The percentage is the probability that the model gave to {escape(called)}; the surest stand '
        f"first.</p>{_gone(evaluation)}{_figures(images, rest)}</section>"
    )  # fmt: skip


def render_errors(evaluation: dict[str, Any]) -> str:
    """The wrongly called images of which the model was surest."""
    errors = evaluation["confident_errors"]
    if not errors:
        return (
            '<section class="card" id="models-errors"><h3>Most confident errors</h3>'
            "<p>No test image was called wrongly.</p></section>"
        )
    images = [
        _figure(
            evaluation["images"].get(error["file"]),
            error["file"],
            f"truly {error['label']}, called {error['predicted']}",
            words.percent(error["probability"]),
            said=True,
            unlike=error["warning"],
        )
        for error in errors
    ]
    return (
        '<section class="card" id="models-errors"><h3>Most confident errors</h3><p class="hint">The wrongly called '
        "images of which the model was surest. Look at them first: they may be filed under the wrong class, be of poor "
        f"quality, or show what the model has not learned.</p>{_gone(evaluation)}{_figures(images, 0)}</section>"
    )


def _figures(images: list[str], rest: int) -> str:
    openly, folded = images[:SHOWN_OPENLY], images[SHOWN_OPENLY:]
    html = f'<div class="lightbox">{"".join(openly)}</div>'
    more = f'<p class="hint">and {words.plural(rest, "more image")}, not listed here</p>' if rest else ""
    if folded:
        html += (
            f'<details class="fold"><summary>Show {words.count(len(folded))} more</summary>'
            f'<div class="lightbox">{"".join(folded)}</div>{more}</details>'
        )
    return html


def _figure(
    address: str | None, file: str, what: str, probability: str, *, said: bool = False, unlike: bool = False
) -> str:
    """An image with its name and the probability of the answer; its name alone where there is no picture."""
    name = escape(file.rpartition("/")[2])
    picture = (
        f'<img src="{escape(address)}" alt="{name}, {escape(what)}" title="{escape(file)}" loading="lazy">'
        if address
        else ""
    )
    lines = f"<span>{escape(what)}</span>" if said else ""
    lines += "<span>unlike the training images</span>" if unlike else ""
    return (
        f'<figure class="tested">{picture}<figcaption><b title="{escape(file)}">{name}</b><span>{probability}</span>'
        f"{lines}</figcaption></figure>"
    )


def _gone(evaluation: dict[str, Any]) -> str:
    if evaluation["images"]:
        return ""
    return alert(
        "The images cannot be shown: the data set was deleted, changed, or is on another machine. Their names remain.",
        kind="info",
    )
