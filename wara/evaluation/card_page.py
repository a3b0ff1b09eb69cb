"""The model card as one HTML file to print or keep as PDF: style and figures inside, no script, nothing from outside.

The text is the Markdown card; markdown-it-py (a port of the CommonMark reference) turns it into HTML with raw HTML off,
so that a class named like a tag stays text.
"""

from __future__ import annotations

import base64
import html
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

FILE = "card.html"
# Columns from which a table is set in smaller type, and from which it gets a page of its own across.
_DENSE, _ACROSS = 8, 14
_FIGURES = {
    "history": "How the training went: the error, and the AUROC on validation images, after each pass.",
    "confusion": "Test images: what each class was taken for.",
    "curves": "Test images: ROC and precision-recall curves with 95 % bands.",
    "reliability": "Test images: stated probability against the share that it came true.",
    "class_scales": "Which scale of detail the training used for each class.",
    "subband_energy": "Energy of the update by layer and scale of detail.",
    "singular_spectrum": "Singular values of the update by layer.",
}
_STYLE = """
:root { color-scheme: light; }
@page { size: A4; margin: 18mm 16mm 20mm; font: 8pt sans-serif; color: #56606b;
  @bottom-left { content: "A research tool, not a medical device"; }
  @bottom-right { content: counter(page) " / " counter(pages); } }
@page across { size: A4 landscape; margin: 14mm; }
* { box-sizing: border-box; }
html { background: #ffffff; }
body { max-width: 178mm; margin: 0 auto; padding: 8mm 4mm; color: #14191f; background: #ffffff;
  font: 10pt/1.5 "IBM Plex Sans", system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere;
  font-variant-numeric: tabular-nums; }
h1, h2, h3 { line-height: 1.25; break-after: avoid; }
h1 { font-size: 18pt; margin: 0 0 4mm; }
h2 { font-size: 13pt; margin: 9mm 0 2.5mm; padding-bottom: 1mm; border-bottom: 1px solid #dfe3e7; }
h3 { font-size: 10.5pt; margin: 5mm 0 1.5mm; }
p, ul, pre, table, blockquote, figure { margin: 0 0 3mm; }
p, li { orphans: 3; widows: 3; }
ul { padding-left: 5mm; }
li { margin-bottom: 1mm; break-inside: avoid; }
blockquote { padding: 3mm 4mm; border: 1px solid #e4cf94; border-left: 4px solid #6b4a00; background: #fdf5e0;
  break-inside: avoid; }
blockquote p:last-child { margin: 0; }
.scroll { overflow-x: auto; margin-bottom: 4mm; break-inside: avoid; }
table { width: 100%; border-collapse: collapse; font-size: 9pt; margin: 0; }
th, td { padding: 1.2mm 2mm; text-align: left; vertical-align: top; border-bottom: 1px solid #dfe3e7; }
th { background: #eef0f2; font-weight: 600; }
thead { display: table-header-group; }
tr { break-inside: avoid; }
.value { white-space: nowrap; }
.dense th:first-child, .dense td:first-child { min-width: 20mm; }
.dense table { font-size: 7pt; }
.dense th, .dense td { padding: 0.7mm 0.8mm; }
.long, .across { break-inside: auto; }
code { font: 0.92em ui-monospace, "SFMono-Regular", Consolas, monospace; }
pre { padding: 3mm; background: #eef0f2; white-space: pre-wrap; break-inside: avoid; }
figure { break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; max-height: 200mm; object-fit: contain; }
figure.square img { width: 62%; }
figcaption { color: #56606b; font-size: 9pt; margin-bottom: 1.5mm; }
@media print { html, body { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { max-width: none; margin: 0; padding: 0; } .scroll { overflow: visible; } .across { page: across; } }
"""
_SQUARE = 0.8  # a figure this high for its width is drawn smaller
_LONG = 24  # rows beyond which a table may go on over the page
_INTERVAL_TABLE = re.compile(r'<div class="scroll".*?</div>', re.DOTALL)  # a dense one needs its breaks
_INTERVAL = re.compile(r"(\d[\d.]*(?: %)?) \[(-?[\d.]+), (-?[\d.]+)\]")


def card_page(markdown: str, figures: Mapping[str, bytes] | None = None) -> str:
    """Return the card as a whole HTML document.

    Args:
        markdown: what :func:`wara.evaluation.card.render_card` returned.
        figures: PNG bytes by the figure's name; those that a card shows, see ``figures_of``.
    """
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.add_render_rule("table_open", _table_open)
    reader.add_render_rule("table_close", lambda self, tokens, index, options, env: "</table></div>\n")
    reader.add_render_rule("heading_open", _heading_open)
    tokens = reader.parse(markdown)
    title = next((tokens[i + 1].content for i, token in enumerate(tokens) if token.tag == "h1"), "Model card")
    body = _INTERVAL_TABLE.sub(_unbroken, reader.renderer.render(tokens, reader.options, {}))
    drawn = [_figure(name, (figures or {})[name]) for name in _FIGURES if name in (figures or {})]
    shown = f'<section><h2 id="figures">Figures</h2>{"".join(drawn)}</section>' if drawn else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Should a name ever get past the escaping, the document could still load and run nothing.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(_plain(title))}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}{shown}\n</main>\n</body>\n</html>\n"
    )


def figures_of(folder: Path) -> dict[str, bytes]:
    """Return the figures that a card shows, of a run's folder of figures."""
    return {name: (folder / f"{name}.png").read_bytes() for name in _FIGURES if (folder / f"{name}.png").is_file()}


def _heading_open(self: object, tokens: list[Token], index: int, options: object, env: object) -> str:
    return f'<{tokens[index].tag} id="{_slug(tokens[index + 1].content)}">'


def _slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", _plain(heading).lower()).strip("-") or "section"


def _table_open(self: object, tokens: list[Token], index: int, options: object, env: object) -> str:
    inside = tokens[index : next(i for i in range(index, len(tokens)) if tokens[i].type == "table_close")]
    columns = sum(token.type == "th_open" for token in inside)
    rows = sum(token.type == "tr_open" for token in inside)
    kinds = ["scroll", *(["dense"] if columns >= _DENSE else []), *(["across"] if columns >= _ACROSS else []),
             *(["long"] if rows > _LONG else [])]  # fmt: skip
    number = sum(token.type == "table_open" for token in tokens[: index + 1])
    return f'<div class="{" ".join(kinds)}" tabindex="0" role="region" aria-label="Table {number}"><table>'


def _unbroken(found: re.Match[str]) -> str:
    """Keep a value and its interval on one line."""
    return _INTERVAL.sub(r'<span class="value">\1 [\2, \3]</span>', found.group())


def _figure(name: str, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    caption = html.escape(_FIGURES[name])
    width, height = struct.unpack(">II", png[16:24])  # of the PNG's header
    shape = ' class="square"' if height > _SQUARE * width else ""
    return f'<figure{shape}><figcaption>{caption}</figcaption><img alt="{caption}" src="{source}"></figure>\n'


def _plain(inline: str) -> str:
    """Return inline Markdown without its backslashes."""
    return re.sub(r"\\(\W)", r"\1", inline)
