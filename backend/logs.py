"""Log lines as text for people or as JSON for programs; each says to which request it belongs."""

from __future__ import annotations

import json
import logging
import re
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime

NO_REQUEST = "-"
TEXT = "%(asctime)s %(levelname)s %(name)s [%(request)s]: %(message)s"
request_id: ContextVar[str] = ContextVar("request_id", default=NO_REQUEST)
_TRUSTED = re.compile(r"[A-Za-z0-9-]{8,64}")
# Members that a line may carry beside its message; see ``backend.guard``.
FIELDS = ("method", "route", "status", "milliseconds")


def take_id(asked: str | None) -> str:
    """Return the id that a proxy gave to a request, where it has the form of one, else a new one."""
    return asked if asked and _TRUSTED.fullmatch(asked) else secrets.token_hex(8)


def configure(level: str, form: str) -> None:
    """Set up the log of this process.

    Args:
        level: ``"debug"`` to ``"error"``.
        form: ``"text"``, or ``"json"`` for one object a line.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_name_request)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Alembic's and the hub client's everyday lines tell a user nothing.
    for name in ("alembic", "httpx", "httpcore", "multipart", "python_multipart"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _name_request(record: logging.LogRecord) -> bool:
    record.request = request_id.get()
    return True


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request": getattr(record, "request", NO_REQUEST),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
