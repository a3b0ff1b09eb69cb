"""The tool that covers text in pictures: what Python renders of it; drawing and sending are in assets/mask.js."""

from __future__ import annotations

import json
from typing import Any

from app.client import Backend
from app.components import format as words
from app.components.html import alert, button, escape


def render_done(data: dict[str, Any]) -> str:
    """What is said above the report when the tool is left: how many images were covered."""
    count = str(data.get("covered") or "0")
    if not count.isdecimal() or not int(count):
        return ""
    sentence = f"{words.plural(int(count), 'image')} covered. The report below is of the images as they are now."
    return alert(sentence, kind="info")


async def render(backend: Backend, dataset: dict[str, Any] | None, choice: dict[str, Any]) -> str:
    """The tool, where it was opened for this data set and there is an image to look at; else nothing."""
    if dataset is None or dataset["status"] != "ready" or choice.get("masking") != dataset["id"]:
        return ""
    flagged = await backend.flagged(dataset["id"])
    return render_tool(dataset, flagged) if flagged else ""


def render_tool(dataset: dict[str, Any], flagged: list[dict[str, Any]]) -> str:
    """The tool on the images in which text may stand."""
    items = escape(json.dumps(flagged))
    back = button("Back to the report", "masked", look="quiet button-small", covered="0")
    return (
        f'<section class="card mask-tool" data-mask="{escape(dataset["id"])}" data-items="{items}"'
        ' aria-labelledby="mask-title">'
        f'<div class="title-row"><h2 id="mask-title">Cover text in the picture</h2>{back}</div>'
        "<p>Draw over every name, number and date. Dashed rectangles are suggestions: remove what is wrong, "
        "add what is missed.</p>"
        f"{_HEAD}{_STAGE}{_RECTANGLES}{_SCOPE}{_END}</section>"
    )


def _press(label: str, part: str, look: str = "quiet button-small") -> str:
    return f'<button type="button" class="button button-{look}" data-part="{part}">{label}</button>'


_HEAD = f"""
<div class="mask-head"><div><b class="file" data-part="file"></b> <span class="hint" data-part="facts"></span></div>
  <div class="mask-steps">{_press("Previous image", "back")}{_press("Next image", "on")}</div></div>
"""
_STAGE = """
<div class="mask-frame"><div class="mask-stage" data-part="stage"><img data-part="image" alt="" draggable="false">
  <div data-part="boxes" aria-hidden="true"></div></div></div>
"""
_RECTANGLES = f"""
<div class="mask-places">
  <div class="title-row"><h3>Rectangles <small>in percent of the image’s width and height</small></h3>
    <div class="mask-steps">{_press("Add a rectangle", "add")}{_press("Undo the last one", "undo")}</div></div>
  <ol data-part="list"></ol>
  <p class="hint" data-part="none">None yet. Draw one on the image with the mouse, or add one here.</p></div>
"""
_SCOPE = """
<fieldset class="choices"><legend>Where</legend>
  <label class="check"><input type="radio" name="mask-scope" value="image" checked><span>Only this image</span></label>
  <label class="check" data-part="all"><input type="radio" name="mask-scope" value="same-size">
    <span><span data-part="all-label">All images of the same size</span>
      <span class="hint">One machine writes at one place. Images that still seem to hold text afterwards stay on the
        list.</span></span></label></fieldset>
"""
_END = f"""
<div class="mask-end">{_press("Cover for good", "cover", "primary")}
  <p class="hint">The pixels are overwritten in the stored files. Your own copies elsewhere, and models trained before,
    stay as they are.</p></div>
<p role="status" class="mask-said" data-part="said"></p><p role="alert" class="meter-alert" data-part="alert"></p>
"""
