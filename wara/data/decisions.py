"""What a person decided about findings: a list that is applied to a catalogue, kept with the run, and undone at will.

A decision names every image that it changes and what becomes of it, so that it means the same wherever it is applied,
whatever a later version would find. Applying is pure: a catalogue goes in, another comes out, and without the decision
everything is as it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wara.data.disk import plain_disk_errors
from wara.data.fixes import ACCEPT, DROP, FIXES, GROUP, MASK, MOVE, NOTES
from wara.data.items import Catalogue, Item, PassedOver, content_digest
from wara.data.words import SPLITS
from wara.errors import InputError

# Raised when findings or fixes change what they mean; a decision keeps the number of the rules that it was made by.
RULES = 1
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """One fix of one finding, as it was decided.

    Attributes:
        finding: the finding's id, e.g. "leaks".
        fix: "drop", "move", "group", "accept" or "mask", which alone cannot be taken back: the files are changed.
        files: each image with its new side (move), its new patient (group) or None (the others).
        when: the moment, ISO 8601 in UTC.
        rules: version of the rules by which it was found.
    """

    finding: str
    fix: str
    files: Mapping[str, str | None]
    when: str
    rules: int = RULES

    @classmethod
    def now(cls, finding: str, fix: str, files: Mapping[str, str | None]) -> Decision:
        """Return a decision of this moment."""
        return cls(finding, fix, dict(files), datetime.now(UTC).isoformat(timespec="seconds"))

    def summary(self) -> dict[str, Any]:
        """Return what is shown of it: finding, fix, images (their number), when, rules."""
        facts = asdict(self)
        return {**{key: facts[key] for key in ("finding", "fix", "when", "rules")}, "images": len(self.files)}


def apply_decisions(catalogue: Catalogue, decisions: Sequence[Decision]) -> Catalogue:
    """Return the catalogue as decided; the same catalogue where there is nothing to change.

    Images that are dropped stand in ``passed_over`` with the finding's name. An image that an earlier decision has
    dropped is left alone by a later one. A file that was one image and is read frame by frame now has all its frames
    treated as it was decided.

    Args:
        catalogue: as it was read, before any decision.
        decisions: in the order in which they were taken.

    Raises:
        InputError: a decision names files that the data does not have; code "decision-files".
    """
    if not decisions:
        return catalogue
    frames: dict[str, list[str]] = {}
    for item in catalogue.items:
        if item.frame is not None:
            frames.setdefault(item.path, []).append(item.file)
    _require_known(catalogue, decisions, frames)
    items = {item.file: item for item in catalogue.items}
    left_out = []
    for decision in decisions:
        for file, value in decision.files.items():
            for name in [file] if file in items else frames.get(file, []):
                if name not in items:
                    continue
                if decision.fix == DROP:
                    reason = f"left out by a decision ({decision.finding})"
                    left_out.append(PassedOver(name, reason, items.pop(name).label))
                else:
                    items[name] = _changed(items[name], decision.fix, value)
    kept = list(items.values())
    passed_over = sorted([*catalogue.passed_over, *left_out], key=lambda entry: entry.file)
    decided = catalogue.with_items(kept, passed_over)
    digest = None if catalogue.digest is None else content_digest(kept)
    return replace(decided, digest=digest, fingerprint=_fingerprint(catalogue, decisions))


def read_decisions(path: Path | str) -> list[Decision]:
    """Read a list of decisions.

    Raises:
        InputError: the file is missing, no such list (code "decisions-file"), or of a newer version of the rules.
    """
    path = Path(path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            "There is no such file of decisions",
            seen=path.name,
            remedy="Make it by 'check DATA --fix FINDING=FIX --decisions FILE', or check the path.",
            code="decisions-missing",
        ) from error
    except (OSError, ValueError) as error:
        raise _no_decisions(path, "it is not JSON") from error
    if not isinstance(stored, list):
        raise _no_decisions(path, "it is not a list")
    return [_decision(entry, path) for entry in stored]


def write_decisions(path: Path | str, decisions: Sequence[Decision]) -> None:
    """Write a list of decisions as JSON; the file appears whole or not at all.

    Raises:
        InputError: code "disk-full" or "not-writable".
    """
    path = Path(path)
    draft = path.with_name(f"{path.name}.partial")
    text = json.dumps([asdict(decision) for decision in decisions], indent=1, ensure_ascii=False)
    try:
        with plain_disk_errors(path.parent):
            draft.write_text(text + "\n", encoding="utf-8", errors="surrogateescape")
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _changed(item: Item, fix: str, value: str | None) -> Item:
    if fix == ACCEPT:
        return replace(item, text="")
    if fix == MASK:
        return item  # the file itself is changed, and what is still to be seen in it was looked for again
    return replace(item, split=value) if fix == MOVE else replace(item, patient=value)


def _require_known(catalogue: Catalogue, decisions: Sequence[Decision], frames: Container[str]) -> None:
    known = {item.file for item in catalogue.items} | {entry.file for entry in catalogue.passed_over}
    strangers = [file for decision in decisions for file in decision.files if file not in known and file not in frames]
    if strangers:
        shown = ", ".join(strangers[:_SHOWN]) + (" ..." if len(strangers) > _SHOWN else "")
        raise InputError(
            "The decisions name files that are not in the data",
            seen=f"{len(strangers):,}: {shown}",
            remedy="Use the decisions that were made for this data, or check the data anew and decide again.",
            code="decision-files",
        )


def _fingerprint(catalogue: Catalogue, decisions: Sequence[Decision]) -> str:
    # A note leaves images, classes and sides as they were, and so the stored pixels of them.
    changing = [decision for decision in decisions if decision.fix not in NOTES]
    if not changing:
        return catalogue.fingerprint
    digest = hashlib.blake2b(catalogue.fingerprint.encode(), digest_size=16)
    for decision in changing:
        digest.update(json.dumps([decision.fix, dict(decision.files)]).encode())
    return digest.hexdigest()


def _decision(entry: Any, path: Path) -> Decision:
    try:
        decision = Decision(**entry)
    except TypeError as error:
        raise _no_decisions(path, f"an entry is {str(entry)[:60]}") from error
    if not isinstance(decision.rules, int) or not isinstance(decision.finding, str):
        raise _no_decisions(path, f"an entry is {str(entry)[:60]}")
    if decision.rules > RULES:
        raise InputError(
            "These decisions were made by a newer version of the program",
            seen=f"{path.name}: rules {decision.rules}",
            remedy=f"Use that version, or decide again (this one knows rules up to {RULES}).",
            code="decisions-newer",
        )
    if decision.fix not in FIXES:
        raise _no_decisions(path, f"the fix '{str(decision.fix)[:40]}' is none of {', '.join(FIXES)}")
    values = decision.files.values() if isinstance(decision.files, dict) else [...]
    allowed = {
        DROP: lambda value: value is None,
        ACCEPT: lambda value: value is None,
        MASK: lambda value: value is None,
        MOVE: lambda value: value in SPLITS,
        GROUP: lambda value: isinstance(value, str) and bool(value),
    }[decision.fix]
    if not all(map(allowed, values)):
        raise _no_decisions(path, f"the files of '{decision.finding}={decision.fix}' have no usable values")
    return decision


def _no_decisions(path: Path, why: str) -> InputError:
    return InputError(
        f"The file of decisions cannot be used: {why}",
        seen=path.name,
        remedy="Make it by 'check DATA --fix FINDING=FIX --decisions FILE'.",
        code="decisions-file",
    )
