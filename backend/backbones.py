"""Which backbones the server offers, under identifiers that show no path of this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sqlalchemy import select

from backend.db import Backbone, Database
from backend.incoming import StoredFile
from backend.model_process import ModelProcess
from backend.settings import Settings
from backend.storage import Storage
from wara.backbone_choices import BackboneInfo, hub_allowed, list_backbones
from wara.errors import InputError

if TYPE_CHECKING:
    from wara.training.recipe import Recipe

WEIGHT_SUFFIXES = (".safetensors", ".pth")


@dataclass(frozen=True)
class Offer:
    """A backbone with the identifier that clients use."""

    id: str
    label: str
    info: BackboneInfo


class BackboneRegistry:
    """Knows the embedded backbone, those of the settings, of uploads and of the hub, and the untrained one."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage

    def offers(self) -> list[Offer]:
        """Return what can be chosen, the best first."""
        originals = {}
        with self._database.session() as session:
            for row in session.scalars(select(Backbone).order_by(Backbone.created)):
                path = self._storage.folder("backbones", row.id) / row.file
                originals[f"{row.name}:{path}"] = row.original
        named = [f"{name}:{path}" for name, path in self._settings.backbone_files]
        infos = list_backbones(extra=(*named, *originals))
        return [Offer(_public_id(info), _label(info, originals.get(info.spec)), info) for info in infos]

    def resolve(self, identifier: str) -> Offer:
        """Return an offered backbone by its identifier or spec; where the hub may be asked, also any of timm's names.

        Only what is offered can be used, so that no request opens a file of its choice.

        Raises:
            InputError: there is none, or its weights are gone.
        """
        offers = self.offers()
        found = next((offer for offer in offers if identifier in (offer.id, offer.info.spec)), None)
        found = found or _of_hub(identifier)
        if found is None:
            raise InputError(
                "Unknown backbone",
                seen=identifier[:100],
                remedy=f"Choose one of {', '.join(offer.id for offer in offers)}, or add its weights file first.",
                code="backbone-unknown",
            )
        if not found.info.available:
            raise InputError(
                "The weights of this backbone are not there any more",
                seen=found.label,
                remedy="Put the file back, or choose another backbone.",
                code="weights-missing",
            )
        return found

    def add(self, name: str, file: StoredFile) -> Offer:
        """Keep uploaded weights once they load into the architecture.

        Raises:
            InputError: no such architecture, or the file does not belong to it.
        """
        from wara.backbones import load_backbone

        original = PurePosixPath(file.name).name
        suffix = Path(original).suffix.lower()
        if suffix not in WEIGHT_SUFFIXES:
            raise InputError(
                "This is no weights file",
                seen=original,
                remedy=f"Choose a file that ends in {' or '.join(WEIGHT_SUFFIXES)}.",
                code="weights-suffix",
            )
        # The same bytes may be given for two architectures, and models lean on what is kept: each has its own place.
        identifier = hashlib.blake2b(f"{file.digest}\n{name}\n{suffix}".encode(), digest_size=16).hexdigest()
        row = Backbone(id=identifier, name=name, file=f"weights{suffix}", original=original)
        # The name that messages show is the one that the person knows.
        candidate = file.path.with_name(original)
        file.path.rename(candidate)
        load_backbone(f"{name}:{candidate}", num_classes=2)
        target = self._storage.folder("backbones", row.id) / row.file
        if not target.exists():  # else the same file was uploaded before and may be in use
            self._storage.move(candidate, target)
        with self._database.session() as session:
            session.merge(row)
        return self.resolve(f"{name}:{target}")


def check_fits(networks: ModelProcess, offer: Offer, recipe: Recipe) -> None:
    """Refuse options that the backbone's layers do not allow, such as a rank larger than they are.

    Raises:
        InputError: what does not fit.
    """
    networks.ask({"task": "fits", "name": offer.info.name, "recipe": dataclasses.asdict(recipe)})


def _of_hub(name: str) -> Offer | None:
    """Return a backbone that is in no list but that the hub may have, where the hub may be asked at all."""
    # A name and perhaps a tag of weights; nothing in it can be a path or another repository.
    if not hub_allowed() or not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)?", name):
        return None
    import timm  # brings torch along, which takes seconds

    if not timm.is_model(name.split(".")[0]):
        return None
    if "." in name and name not in timm.list_pretrained(f"{name.split('.')[0]}.*"):
        return None
    note = "Fetched once from the model hub, then kept."
    return Offer(name, name, BackboneInfo(name, name, name, "hub", True, True, None, note))


def _public_id(info: BackboneInfo) -> str:
    if info.source != "file":
        return info.spec
    path = info.spec.partition(":")[2]
    return f"{info.name}@{hashlib.blake2b(path.encode(), digest_size=4).hexdigest()}"


def _label(info: BackboneInfo, original: str | None) -> str:
    return info.label if original is None else f"{info.name} ({original})"
