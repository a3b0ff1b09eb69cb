"""What of an upload has arrived: the card's progress, pause and offer to go on, and the page of a set being sent."""

from __future__ import annotations

from typing import Any

from app.components import format as words
from app.components.html import escape, table

SHOWN_REFUSED = 200

# Filled by assets/upload.js.
ARRIVAL = """
  <div class="offer" data-part="offer" id="upload-offer" role="status" hidden>
    <p data-part="offer-text"></p>
    <div class="zone-buttons">
      <button type="button" class="button button-quiet button-small" data-part="again">Choose it again</button>
      <button type="button" class="button button-quiet button-small" data-part="discard">Delete what arrived</button>
    </div>
  </div>
  <div class="meter" data-part="meter" id="upload-meter">
    <progress max="1" value="0" aria-label="Upload"></progress>
    <div class="meter-line"><span data-part="text" role="status"></span>
      <span class="meter-buttons">
        <button type="button" class="button button-quiet button-small" data-part="pause">Pause</button>
        <button type="button" class="button button-quiet button-small" data-part="stop">Stop</button></span></div>
    <p class="meter-alert" data-part="alert" role="alert"></p>
  </div>
  <div class="refused" id="upload-refused"><p data-part="refused-head" role="status"></p>
    <ul data-part="refused"></ul></div>
"""


def render_receiving(dataset: dict[str, Any], arrived: dict[str, Any]) -> str:
    """What is shown of a data set while it is sent, or while its sending waits to be gone on with."""
    size = words.size(arrived["bytes"] / 1024**2)
    refused = arrived.get("refused") or []
    parts = [
        f'<section class="card waiting" data-state="receiving"><h2>{escape(dataset["name"])}</h2>',
        f'<p role="status">{words.plural(arrived["files"], "file")} arrived, {size}</p>',
        '<p class="hint">If the sending was interrupted, choose the same folder again: only what is missing is sent. '
        "What nobody goes on with for three days is deleted.</p>",
    ]
    if refused:
        number = arrived.get("refused_count", len(refused))
        rows = [(escape(entry["file"]), escape(entry["reason"])) for entry in refused[:SHOWN_REFUSED]]
        parts.append(f"<p>{words.plural(number, 'file')} could not be kept:</p>")
        parts.append(table(("File", "Reason"), rows, caption="Files that could not be kept"))
    return "".join(parts) + "</section>"
