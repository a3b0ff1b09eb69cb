"""Form controls as HTML: select, number, choice cards, check box. Their script side is ``studio.form``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.components.html import escape


def select(
    name: str,
    label: str,
    options: Iterable[tuple[str, str]],
    *,
    value: str = "",
    hint: str = "",
    term: str = "",
    ident: str = "",
) -> str:
    """A drop-down list of (value, text) pairs; ``term`` is the technical word beside the label.

    ``ident`` goes into the element's id where another page, which stands in the same document, has the same name.
    """
    ident = ident or name
    items = "".join(
        f'<option value="{escape(key)}"{" selected" if key == value else ""}>{escape(text)}</option>'
        for key, text in options
    )
    return _field(
        ident, label, f'<select id="f-{ident}" name="{name}"{_described(ident, hint)}>{items}</select>', hint, term
    )


def grouped_select(
    name: str, label: str, groups: Iterable[tuple[str, Iterable[tuple[str, str, bool]]]], *, hint: str = ""
) -> str:
    """A drop-down list in named groups of (value, text, may be chosen)."""
    items = "".join(
        f'<optgroup label="{escape(title)}">'
        + "".join(
            f'<option value="{escape(key)}"{"" if usable else " disabled"}>{escape(text)}</option>'
            for key, text, usable in options
        )
        + "</optgroup>"
        for title, options in groups
    )
    return _field(
        name, label, f'<select id="f-{name}" name="{name}"{_described(name, hint)}>{items}</select>', hint, ""
    )


def number(
    name: str, label: str, *, placeholder: str = "as chosen above", hint: str = "", term: str = "", step: str = "1"
) -> str:
    """A number; left empty, the preset's own is used. The server checks it, so that one place decides."""
    mode = "numeric" if step == "1" else "decimal"
    control = (
        f'<input id="f-{name}" name="{name}" type="text" inputmode="{mode}" autocomplete="off"'
        f' placeholder="{escape(placeholder)}"{_described(name, hint)}>'
    )
    return _field(name, label, control, hint, term)


def text(name: str, label: str, *, placeholder: str = "", hint: str = "", term: str = "") -> str:
    """One line of text."""
    control = (
        f'<input id="f-{name}" name="{name}" type="text" autocomplete="off" maxlength="200"'
        f' placeholder="{escape(placeholder)}"{_described(name, hint)}>'
    )
    return _field(name, label, control, hint, term)


def check(name: str, label: str, *, hint: str = "", term: str = "") -> str:
    """A check box that is off at first."""
    small = f" <small>{escape(term)}</small>" if term else ""
    note = f'<span class="hint">{escape(hint)}</span>' if hint else ""
    return (
        f'<label class="check"><input type="checkbox" name="{name}" value="true">'
        f"<span>{escape(label)}{small}{note}</span></label>"
    )


def cards(
    name: str,
    legend: str,
    options: Sequence[tuple[str, str, str]],
    *,
    value: str,
    columns: int = 1,
    swatch: bool = False,
) -> str:
    """Radio buttons as cards of (value, title, one plain line)."""
    items = []
    for key, title, line in options:
        chosen = " checked" if key == value else ""
        colour = f'<i class="swatch swatch-{escape(key)}"></i>' if swatch else ""
        items.append(
            f'<label class="choice"><input type="radio" name="{name}" value="{escape(key)}"{chosen}>'
            f"<span><b>{colour}{escape(title)}</b><span>{escape(line)}</span></span></label>"
        )
    return f'<fieldset class="choices columns-{columns}"><legend>{escape(legend)}</legend>{"".join(items)}</fieldset>'


def _described(name: str, hint: str) -> str:
    return f' aria-describedby="h-{name}"' if hint else ""


def _field(name: str, label: str, control: str, hint: str, term: str) -> str:
    small = f" <small>{escape(term)}</small>" if term else ""
    note = f'<span class="hint" id="h-{name}">{escape(hint)}</span>' if hint else ""
    return f'<div class="field"><label for="f-{name}">{escape(label)}{small}</label>{control}{note}</div>'
