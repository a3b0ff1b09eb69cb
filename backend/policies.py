"""What a browser may do with an answer: headers that every answer gets, and content policies by kind of page."""

from __future__ import annotations

import base64
import hashlib
import re

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Inside a frame of another site, a click meant for that site could delete something here.
    "X-Frame-Options": "DENY",
    # Not "no-referrer": with it, a browser says of a form of our own that it comes from nowhere.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
# No other site may show what the API holds, not even as a picture; and no shared store may keep it.
API_HEADERS = {"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store"}
# Of all that is no page: nothing in it runs, loads or is framed, should a browser ever take it for a page.
CLOSED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


def docs_policy(page: bytes) -> str:
    """Return the policy of the API's own page: its files come from here, and of scripts in it only those it holds."""
    return (
        f"default-src 'none'; script-src 'self' {script_hashes(page)}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def script_hashes(page: bytes) -> str:
    """Return the sources that allow the scripts written in a page, and no others that might get into it."""
    digests = (hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
