"""The place below a classified image where its explanation appears; the script of the page fills it."""

from __future__ import annotations

from app.components.html import escape, icon


def render_why(place: int, file: str, label: str, model_id: str) -> str:
    """A button that asks why, and the figure that it opens.

    Args:
        place: of the image among those classified; its file stays in the browser under this number.
        file: the image's name.
        label: the class that the model chose.
        model_id: the model that chose it.
    """
    ident = f"why-{place}"
    name = escape(f"Why {label}? Explain {file}")
    return (
        f'<div class="why" data-why="{place}" data-model="{escape(model_id)}" data-state="closed">'
        f'<button type="button" class="button button-quiet" data-part="ask" aria-expanded="false"'
        f' aria-controls="{ident}" aria-label="{name}">{icon("analyse")}<span>Why?</span></button>'
        f'<span class="hint" data-part="text" role="status"></span>'
        f'<p class="meter-alert" data-part="alert" role="alert"></p>'
        f'<figure id="{ident}" data-part="figure"></figure></div>'
    )
