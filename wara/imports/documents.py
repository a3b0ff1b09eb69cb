"""What the JSON files of a RUN folder may hold, as far as anything reads it; what else stands there is dropped."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wara.errors import InputError
from wara.imports.archive import unfit
from wara.training import outputs
from wara.training.recipe import Recipe

T = TypeVar("T", bound=BaseModel)
MOST_CLASSES = 1000
Count = Annotated[int, Field(ge=0, le=10**12)]
Size = Annotated[float, Field(ge=0, le=1e15)]
Short = Annotated[str, Field(max_length=200)]
Sentence = Annotated[str, Field(max_length=2000)]
Side = Literal["train", "val", "test"]


def _class_name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("no name of a class")
    return name


ClassName = Annotated[str, Field(max_length=200), AfterValidator(_class_name)]


class _Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class StoredBackbone(_Document):
    """The backbone of a run. A colon would begin the path of a file of this machine, so no name has one."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?$", max_length=100)]
    source: Literal["embedded", "file", "hub", "untrained"]
    file: Annotated[str, Field(max_length=300)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class StoredData(_Document):
    """What is told of the data."""

    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{8,128}$")]
    images: Count
    classes: dict[ClassName, Count]
    splits: dict[Side, Count]
    passed_over: Count


class StoredRecipe(_Document):
    """What recipe.json says beside the options."""

    format: Literal[1]
    backbone: StoredBackbone
    classes: Annotated[list[ClassName], Field(min_length=2, max_length=MOST_CLASSES)]
    data: StoredData
    device_name: Short | None = None
    accumulate: Annotated[int, Field(ge=1, le=4096)] = 1
    packages: Annotated[dict[Short, Short], Field(max_length=50)] = {}


class Measured(_Document):
    """What metrics.json says of the training itself."""

    trainable_parameters: Count
    adapter_parameters: Count
    images_per_second: Size
    peak_memory_mb: Size | None
    epochs_run: Count
    best_epoch: Count
    seconds: Size


class _PassedOver(_Document):
    count: Count
    reasons: Annotated[dict[Sentence, Count], Field(max_length=1000)]


class _Finding(_Document):
    kind: Short
    severity: Literal["serious", "warning", "note"]
    sentence: Sentence


class _Decided(_Document):
    finding: Short
    fix: Literal["drop", "move", "group", "accept", "mask"]
    images: Count


class _SplitSide(_Document):
    images: Count
    patients: Count | None
    classes: dict[ClassName, Count]


class _Leak(_Document):
    splits: list[Side]


class Report(_Document):
    """What the card tells of figures/report.json; it names no file and no patient."""

    images: Count
    patients: Count | None
    formats: dict[Short, Count] = {}
    sizes: dict[Literal["smallest", "median", "largest"], tuple[Count, Count]] | None = None
    passed_over: _PassedOver
    findings: Annotated[list[_Finding], Field(max_length=1000)] = []
    decisions: Annotated[list[_Decided], Field(max_length=10_000)] = []
    splits: dict[Side, _SplitSide]
    split_source: Literal["given", "made", "completed"] | None
    leaks: list[_Leak] = []
    notes: Annotated[list[Sentence], Field(max_length=1000)] = []
    warnings: Annotated[list[Sentence], Field(max_length=1000)] = []


def read_document(shape: type[T], value: Any, name: str) -> T:
    """Return a document of a run, of its known fields only.

    Raises:
        InputError: a field is missing or holds something else; code ``"import-unfit"``.
    """
    try:
        # By its text, where a pair is a list: what was read is plain JSON already.
        return shape.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"]) or "the whole"
        raise unfit(name, f"{place}, {first['msg'][0].lower()}{first['msg'][1:]}") from error


def read_options(stored: dict[str, Any], backbone: str) -> Recipe:
    """Return the options of a stored recipe.

    Raises:
        InputError: one that cannot be used.
    """
    names = {field.name for field in dataclasses.fields(Recipe)} - {"backbone"}
    recipe = Recipe(backbone=backbone, **{key: value for key, value in stored.items() if key in names})
    try:
        recipe.validate()
    except (TypeError, AttributeError) as error:  # a list where a text should stand
        raise unfit(outputs.RECIPE, "an option is of another kind") from error
    except InputError as error:
        raise unfit(outputs.RECIPE, error.sentence()) from error
    return recipe


def like(claimed: Any, own: Any, name: str, *, place: str = "", exact: Sequence[str] = ()) -> Any:
    """Return what was claimed, of the parts that what was worked out here has too, each of the same kind.

    Args:
        claimed: what stands in a file.
        own: the same as it comes out here, from fewer resamples or from other images.
        name: of the file, for the refusal.
        place: where in the file.
        exact: places whose values must be those that came out here, since images and chance do not change them.

    Raises:
        InputError: a part is missing, of another kind or of another length; code ``"import-unfit"``.
    """
    if place.rpartition(".")[2] == "note":
        if claimed is None or isinstance(claimed, str):
            return claimed
    elif isinstance(own, dict) and isinstance(claimed, dict):
        keys = [key for key in own if key in claimed or key != "note"]
        keys += ["note"] if "note" in claimed and "note" not in own else []
        if missing := [key for key in keys if key not in claimed]:
            raise unfit(name, f"{place}.{missing[0]} is missing".lstrip("."))
        places = {key: f"{place}.{key}".lstrip(".") for key in keys}
        for key in keys:
            if places[key] in exact and claimed[key] != own[key]:
                raise unfit(name, f"{places[key]} does not belong to the other files")
        return {key: like(claimed[key], own.get(key), name, place=places[key], exact=exact) for key in keys}
    elif isinstance(own, list) and isinstance(claimed, list):
        if all(isinstance(entry, str) for entry in own):  # sentences
            if len(claimed) <= MOST_CLASSES and all(isinstance(entry, str) for entry in claimed):
                return claimed
        elif len(claimed) == len(own):
            pairs = zip(claimed, own, strict=True)
            return [like(entry, there, name, place=place, exact=exact) for entry, there in pairs]
    elif isinstance(own, str | bool):
        if type(claimed) is type(own):
            return claimed
    elif own is None or isinstance(own, int | float):
        plain = isinstance(claimed, int | float) and not isinstance(claimed, bool) and math.isfinite(claimed)
        if claimed is None or plain:
            return claimed
    raise unfit(name, f"{place or 'the whole'} is of another kind")
