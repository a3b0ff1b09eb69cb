"""Whose a data set or a model is, and the button that shares one's own; nothing on a server without accounts."""

from __future__ import annotations

from typing import Any

from app.components.html import empty, escape

LOOKS_ONLY = (
    "Your account sees and classifies with what others share with it; it sends no images and trains nothing. "
    "An admin can give it another role."
)


NO_MODEL = (
    "You classify with models that others share with you. Ask whoever trained one to share it on the page Models; "
    "an admin can give your account another role."
)


def may_write(me: dict[str, Any]) -> bool:
    """Whether the person who looks may send images and train; always on a server without accounts."""
    return me.get("id") is None or "write" in me["scopes"]


def render_no_model(me: dict[str, Any], title: str, sentence: str, *, mark: str) -> str:
    """An empty state for want of a model: the way to Train, or what an account that trains nothing can do."""
    if not may_write(me):
        return empty("No model is shared with you yet", NO_MODEL, mark=mark)
    return empty(title, sentence, page="train", action="Go to Train", mark=mark)


def may_delete(item: dict[str, Any]) -> bool:
    """Whether the person who looks may delete it."""
    return item.get("access") in (None, "own")


def may_change(item: dict[str, Any]) -> bool:
    """Whether the person who looks may change it; what is only shared to look at has no buttons that do."""
    return item.get("access") in (None, "own", "edit")


def share_button(kind: str, item: dict[str, Any]) -> str:
    """Return the button of the dialog in account.js; ``kind`` is ``dataset`` or ``model``."""
    if item.get("access") != "own":
        return ""
    return (
        f'<button type="button" class="button button-quiet button-small" data-share="{kind}"'
        f' data-id="{escape(item["id"])}" data-name="{escape(item["name"])}"><span>Share'
        f'<span class="sr-only"> {escape(item["name"])}</span></span></button>'
    )


def owner_badge(item: dict[str, Any]) -> str:
    """Return whose it is, where it is another's, and what one may do with it."""
    if not item.get("owner"):
        return ""
    may = {"view": ", to look at", "edit": ", to look at and change"}.get(str(item.get("access")), "")
    return f' <span class="badge badge-note">of {escape(item["owner"])}{may}</span>'
