"""The sign-in page: plain HTML of its own, so that nothing of the pages is sent to whoever is nobody yet."""

from __future__ import annotations

import html
from urllib.parse import urlsplit

_STYLE = """
:root { color-scheme: light dark; --ground: #f4f6f8; --card: #fff; --ink: #16202b; --soft: #51606f; --line: #c5ced8;
  --edge: #808a95; --brand: #0b6075; --bad: #9d1c1c; }
@media (prefers-color-scheme: dark) { :root { --ground: #0f151b; --card: #18212a; --ink: #e9eef3; --soft: #a9b7c4;
  --line: #3b4a58; --edge: #707b87; --brand: #6cc5dc; --bad: #ff9d94; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground); color: var(--ink);
  font: 16px/1.5 "IBM Plex Sans", system-ui, sans-serif; }
main { width: min(24rem, 92vw); background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 2rem; }
h1 { font-size: 1.35rem; margin: 0 0 .25rem; } p { margin: 0 0 1rem; color: var(--soft); }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600; }
input { width: 100%; padding: .6rem .7rem; font: inherit; color: inherit; background: var(--ground);
  border: 1px solid var(--edge); border-radius: 8px; }
input:focus-visible, button:focus-visible { outline: 3px solid var(--brand); outline-offset: 2px; }
button { margin-top: 1.5rem; width: 100%; padding: .7rem; font: inherit; font-weight: 600; color: var(--card);
  background: var(--brand); border: 0; border-radius: 8px; cursor: pointer; }
[role=alert] { color: var(--bad); font-weight: 600; margin: 1rem 0 0; } small { color: var(--soft); display: block;
  margin-top: 1.5rem; }
"""


def render_login(target: str, *, name: str = "", problem: str = "") -> str:
    """Return the page.

    Args:
        target: where to go after signing in, a path of this server.
        name: what stood in the name's field before.
        problem: why signing in failed; "" at first.
    """
    alert = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sign in · WaRA Studio</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body><main>
<h1>WaRA Studio</h1><p>Sign in to go on.</p>
<form method="post"><input type="hidden" name="next" value="{html.escape(target)}">
<label for="name">Name</label>
<input id="name" name="name" value="{html.escape(name)}" autocomplete="username" required maxlength="80" autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required maxlength="200">
{alert}<button type="submit">Sign in</button></form>
<small>Research tool, not a medical device.</small></main></body></html>"""


def own_path(target: str | None) -> str:
    """Return a path of this server to go to; anything that leads elsewhere becomes the first page."""
    target = target or "/"
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    foreign = parts.scheme or parts.netloc or not target.startswith("/") or target.startswith(("//", "/\\"))
    return "/" if foreign or not target.isprintable() or "\\" in target else target
