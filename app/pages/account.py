"""The page Account: one's password and programs; for admins the accounts and what was done.

Passwords and tokens go from the browser straight to the API (assets/account.js), never through a page's events.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.client import Backend, BackendProblem, browser_url
from app.components import format as words
from app.components.events import listen
from app.components.html import alert, escape, page_head, panel, table

ROLES = {
    "admin": "sees and does everything, and manages accounts",
    "member": "has images and models of their own, and what is shared with them",
    "viewer": "looks at what is shared with them and classifies with it",
}
SCOPES = {
    "read": "look at images, results and models",
    "predict": "classify",
    "write": "send images, train and change",
    "admin": "manage accounts",
}
KINDS = {"dataset": "data set"}
SHOWN_OF_AUDIT = 30


def build(backend: Backend) -> dict[str, Any]:
    """Lay the page out and wire it."""
    panel(page_head("Account", "Who may use this server, and what they may do."))
    wire = "studio.account(element, trigger, 'changed')"
    with gr.Row(elem_classes="columns"):
        with gr.Column(elem_classes="side"):
            own = panel(elem_id="account-own", wire=wire)
        with gr.Column(elem_classes="main"):
            tokens = panel(elem_id="account-tokens", wire=wire)
            token_form = panel(elem_id="account-token-form", wire=wire)
    people = panel(elem_id="account-people", wire=wire)
    person_form = panel(elem_id="account-person-form", wire=wire)
    audit = panel(elem_id="account-audit", wire=wire)
    outputs = [own, tokens, token_form, people, person_form, audit]

    async def show() -> dict[Any, Any]:
        try:
            me = await backend.me()
            if me["id"] is None:
                return {own: render_nobody(), **dict.fromkeys(outputs[1:], "")}
            forms = {own: render_own(me), token_form: render_token_form(me)}
            if "admin" in me["scopes"]:
                forms[person_form] = render_person_form()
            return {**forms, **await lists()}
        except BackendProblem as problem:
            return {own: alert(problem.sentence)}

    async def lists() -> dict[Any, Any]:
        """What changes with an action; the forms keep what stands in them, and a new token its secret."""
        me = await backend.me()
        shown = {tokens: render_tokens(await backend.tokens())}
        if "admin" in me["scopes"]:
            shown[people] = render_people(await backend.accounts(), me["id"])
            shown[audit] = render_audit(await backend.audit(SHOWN_OF_AUDIT))
        return shown

    async def changed() -> dict[Any, Any]:
        try:
            return await lists()
        except BackendProblem as problem:
            return {tokens: alert(problem.sentence)}

    for part in outputs:
        listen(part.changed, changed, None, outputs)
    return {"show": show, "inputs": [], "outputs": outputs}


def render_nobody() -> str:
    """A server without accounts: how it comes to have them."""
    form = _form(
        "POST /accounts",
        _password("password", "Password", "new-password", ident="first-password"),
        "Make the first account",
        before=_text("name", "Name", "username", ident="first-name")
        + '<input type="hidden" name="role" value="admin">',
        then="login",
    )
    return (
        '<section class="card"><h2>No accounts yet</h2><p>Nobody signs in: this server answers the person at this '
        "machine, who may do everything.</p><p>With the first account everybody signs in. It is an admin, owns what is "
        f"here now, and can make further accounts.</p>{form}</section>"
    )


def render_own(me: dict[str, Any]) -> str:
    """Who is signed in, and a new password."""
    form = _form(
        "PUT /me/password",
        _password("old", "Password now", "current-password") + _password("new", "New password", "new-password"),
        "Change the password",
        then="login",
        hint="You then sign in again, everywhere.",
    )
    role = f"Your role is <b>{escape(me['role'])}</b>: an account that {escape(ROLES[me['role']])}."
    return (
        f'<article><section class="card"><h2>{escape(me["name"])}</h2><p>{role}</p></section>'
        f'<section class="card"><h2>Change your password</h2>{form}</section></article>'
    )


def render_tokens(tokens: list[dict[str, Any]]) -> str:
    """One's own tokens."""
    head = (
        "<h2>Access for programs</h2><p>A program uses this server in your name with a token, which it sends as "
        "<code>Authorization: Bearer …</code>.</p>"
    )
    if not tokens:
        return f'<section class="card">{head}<p class="hint">There is no token.</p></section>'
    rows = [
        (
            escape(token["label"]),
            escape("; ".join(SCOPES[scope] for scope in SCOPES if scope in token["scopes"])),
            escape(words.moment(token["used"])) if token["used"] else "never",
            escape(words.moment(token["expires"])),
            _call(
                f"Revoke {token['label']}", f"DELETE /me/tokens/{token['id']}", shown="Revoke",
                confirm=f"Revoke the token “{token['label']}”? Programs that use it are let in no more.",
            ),
        )
        for token in tokens
    ]  # fmt: skip
    columns = ("Name", "May", "Last used", "Ends", '<span class="sr-only">Revoke</span>')
    return f'<section class="card">{head}{table(columns, rows, caption="Your tokens")}{_alert()}</section>'


def render_token_form(me: dict[str, Any]) -> str:
    """A new token; its secret is shown by the script, once."""
    boxes = "".join(
        f'<label class="check"><input type="checkbox" name="scopes" value="{scope}"'
        f"{' checked' if scope == 'read' else ''}><span>{text[0].upper()}{text[1:]}</span></label>"
        for scope, text in SCOPES.items()
        if scope in me["scopes"]
    )
    days = "".join(
        f'<option value="{day}"{" selected" if day == 90 else ""}>{day} days</option>' for day in (7, 30, 90, 365)
    )
    fields = (
        _text("label", "Name of the program", "off")
        + f'<fieldset class="choices"><legend>It may</legend>{boxes}</fieldset>'
        + f'<div class="field"><label for="a-days">For</label><select id="a-days" name="days">{days}</select></div>'
    )
    form = _form("POST /me/tokens", fields, "Make a token", then="secret", lists="scopes", numbers="days")
    return f'<section class="card"><h2>New token</h2>{form}<div data-part="secret" role="status"></div></section>'


def render_people(accounts: list[dict[str, Any]], own_id: str) -> str:
    """All accounts, with what an admin may do to each."""
    rows = []
    for account in accounts:
        address, name = f"/accounts/{account['id']}", account["name"]
        options = "".join(
            f'<option value="{role}"{" selected" if role == account["role"] else ""}>{role}</option>' for role in ROLES
        )
        select = (
            f'<span class="field"><select name="role" aria-label="Role of {escape(name)}"'
            f' data-call="PATCH {address}">{options}</select></span>'
        )
        if account["disabled"]:
            gate = _call(f"Let in again: {name}", f"PATCH {address}", shown="Let in again", body='{"disabled": false}')
        else:
            gate = _call(
                f"Disable {name}", f"PATCH {address}", shown="Disable", body='{"disabled": true}', label="Disable",
                confirm=f"Let “{name}” in no more? What they own stays, and they can be let in again.",
            )  # fmt: skip
        password = _form(
            f"PATCH {address}",
            _password("password", f"New password of {name}", "new-password", ident=f"password-{account['id']}"),
            "Set it",
        )
        remove = _call(
            f"Delete {name}", f"DELETE {address}", shown="Delete",
            confirm=f"Delete the account “{name}”? What it owns stays, for admins to see and to share.",
        )  # fmt: skip
        you = " <small>you</small>" if account["id"] == own_id else ""
        state = ' <span class="badge badge-note">disabled</span>' if account["disabled"] else ""
        reset = f"<details><summary>New password</summary>{password}</details>"
        others = "" if account["id"] == own_id else gate + remove
        rows.append((
            f"{escape(name)}{you}{state}", select, escape(words.moment(account["created"])),
            f'<div class="row-buttons">{others}</div>', reset,
        ))  # fmt: skip
    head = ("Name", "Role", "Since", '<span class="sr-only">Disable, delete</span>', "Password")
    roles = "".join(f"<li><b>{role}</b> {escape(text)}</li>" for role, text in ROLES.items())
    return (
        f'<section class="card"><h2>People</h2>{table(head, rows, caption="Accounts")}{_alert()}'
        f'<ul class="hint">{roles}</ul></section>'
    )


def render_person_form() -> str:
    """A new account."""
    options = "".join(
        f'<option value="{role}"{" selected" if role == "member" else ""}>{role}</option>' for role in ROLES
    )
    fields = (
        _text("name", "Name", "off", ident="person-name")
        + _password("password", "First password", "new-password", ident="person-password")
        + f'<div class="field"><label for="a-role">Role</label><select id="a-role" name="role">{options}</select></div>'
    )
    hint = "Tell them the password in person; they change it on this page."
    form = _form("POST /accounts", fields, "Make the account", css="inline", hint=hint)
    return f'<section class="card"><h2>New account</h2>{form}</section>'


def render_audit(entries: list[dict[str, Any]]) -> str:
    """The newest lines of the audit log, and the way to all of them."""
    rows = [
        (
            escape(words.moment(entry["at"])),
            escape(entry["user_name"]) + (" <small>by a token</small>" if entry["via"] == "token" else ""),
            escape(entry["action"].replace("_", " ").capitalize()),
            _object(entry),
            "done" if entry["status"] < 400 else f"refused <small>{entry['status']}</small>",
        )
        for entry in entries
    ]
    head = ("When", "Who", "What", "Which", "Outcome")
    link = f'<a class="button button-quiet" href="{escape(browser_url("audit.csv"))}" download>Download all as CSV</a>'
    lead = "Who changed, classified with, or took away what; nobody can change these lines."
    return (
        f'<section class="card"><div class="title-row"><h2>What was done</h2>{link}</div><p class="hint">{lead}</p>'
        f"{table(head, rows, caption='The newest lines of the audit log')}</section>"
    )


def _object(entry: dict[str, Any]) -> str:
    if not entry["object_id"]:
        return ""
    kind = KINDS.get(entry["object_kind"], entry["object_kind"])
    return f"{escape(kind)} <small>{escape(entry['object_id'])}</small>"


def _form(
    call: str, fields: str, label: str, *, before: str = "", then: str = "", hint: str = "", lists: str = "",
    numbers: str = "", css: str = "",
) -> str:  # fmt: skip
    """A form that the script sends to the API: ``call`` is method and path, ``then`` what follows."""
    note = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    return (
        f'<form class="account-form {css}" data-call="{escape(call)}" data-then="{then}" data-list="{lists}"'
        f' data-number="{numbers}" novalidate>{before}{fields}<button type="submit" class="button button-primary">'
        f"{escape(label)}</button>{note}{_alert()}</form>"
    )


def _alert() -> str:
    return '<p class="account-problem" data-part="alert" role="alert"></p>'


def _text(name: str, label: str, complete: str, *, ident: str = "") -> str:
    ident = f"a-{ident or name}"
    return (
        f'<div class="field"><label for="{ident}">{escape(label)}</label>'
        f'<input id="{ident}" name="{name}" type="text" maxlength="80" autocomplete="{complete}"></div>'
    )


def _password(name: str, label: str, complete: str, *, ident: str = "") -> str:
    ident = f"a-{ident or name}"
    hint = '<span class="hint">At least 10 characters.</span>' if complete == "new-password" else ""
    return (
        f'<div class="field"><label for="{ident}">{escape(label)}</label>'
        f'<input id="{ident}" name="{name}" type="password" maxlength="200" autocomplete="{complete}">{hint}</div>'
    )


def _call(name: str, call: str, *, shown: str, confirm: str = "", body: str = "", label: str = "") -> str:
    """A button that the script turns into one request."""
    asked = f' data-confirm="{escape(confirm)}" data-confirm-label="{escape(label or shown)}"' if confirm else ""
    sent = f' data-body="{escape(body)}"' if body else ""
    return (
        f'<button type="button" class="button button-quiet button-small" data-call="{escape(call)}"{asked}{sent}'
        f' aria-label="{escape(name)}"><span>{escape(shown)}</span></button>'
    )
