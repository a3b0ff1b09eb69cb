"""The audit log: who did what, when, to which object. Rows are only ever added."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from backend.acting import Principal, acting
from backend.db import AuditEntry, Database
from wara.answer_table import as_text

HEAD = ("number", "at", "account", "name", "via", "action", "object_kind", "object", "status")
_PAGE = 1000

log = logging.getLogger("backend.audit")


class Audit:
    """Writes and reads the log.

    Args:
        database: where it is a table that refuses changes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        action: str,
        status: int,
        *,
        kind: str | None = None,
        identifier: str | None = None,
        principal: Principal | None = None,
    ) -> None:
        """Add a line. What cannot be written there goes to the server's log, and the request goes on.

        Args:
            action: name of the route's function, or ``sign_in``, ``sign_in_refused``.
            status: HTTP status of the answer.
            kind: what it was done to.
            identifier: the id of that.
            principal: who did it; by default whoever the request acts for.
        """
        who = principal or acting()
        entry = AuditEntry(
            user_id=who.user_id, user_name=who.name[:80], via=who.via, action=action[:80], status=status,
            object_kind=kind, object_id=None if identifier is None else identifier[:32],
        )  # fmt: skip
        try:
            with self._database.session() as session:
                session.add(entry)
        except SQLAlchemyError as error:
            log.error(
                "Not in the audit log (%s): account %s %s %s %s -> %d", type(error).__name__, who.user_id, action, kind,
                entry.object_id, status,
            )  # fmt: skip

    def page(self, *, before: int | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """Return entries, newest first; ``before`` goes on behind one."""
        query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditEntry.id < before)
        with self._database.session() as session:
            return session.scalars(query).all()

    def export(self, since: datetime | None = None) -> Iterator[str]:
        """Yield the log as CSV, oldest first, in pieces, so that memory stays flat."""
        yield _line(HEAD)
        last = 0
        while True:
            query = select(AuditEntry).where(AuditEntry.id > last).order_by(AuditEntry.id).limit(_PAGE)
            if since is not None:
                query = query.where(AuditEntry.at >= since)
            with self._database.session() as session:
                rows = session.scalars(query).all()
            if not rows:
                return
            yield "".join(
                _line((row.id, row.at.isoformat(), row.user_id, row.user_name, row.via, row.action, row.object_kind,
                       row.object_id, row.status)) for row in rows
            )  # fmt: skip
            last = rows[-1].id


def _line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    # An account's name that a spreadsheet would run as a formula stays text.
    csv.writer(buffer).writerow(["" if cell is None else as_text(str(cell)) for cell in cells])
    return buffer.getvalue()
