"""What a study compares, read from its YAML file: methods, data, sizes, seeds, rates, and the cells that follow."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.study.subsets import LADDER
from wara.errors import InputError

# Of these the rank is no option: what they train does not depend on it.
RANKLESS = frozenset({"linear-probe", "full", "ia3", "vera", "oft"})
TUNE, TEST = "tune", "test"


@dataclass(frozen=True)
class Method:
    """One method of a study.

    Attributes:
        name: as the tables call it.
        base: what builds it, see `benchmarks.study.methods.BASES`.
        rate: centre of its grid of largest step sizes; the study's `rates` are multiples of it.
        options: what the base is given.
        role_rates: multiples of the rate for some trained tensors, by a part of their names, e.g. ``{"gain": 10}``.
        rank: its own rank, where it is not to follow the study's.
    """

    name: str
    base: str
    rate: float = 1e-3
    options: dict[str, Any] = field(default_factory=dict)
    role_rates: dict[str, float] = field(default_factory=dict)
    rank: int | None = None


@dataclass(frozen=True)
class Protocol:
    """What is the same for all methods of a study.

    Attributes:
        backbone: spec of the backbone; a file is looked for from the shared folder.
        image_size: side of the input in pixels; None takes the backbone's.
        epochs: passes over the training images, of all sizes or by size.
        batch_size: images a step.
        head_rate: largest step size of the head (a linear probe's follows the grid).
        weight_decay: AdamW's, on matrices only.
        warmup: share of the steps over which step sizes rise; then they fall along a cosine.
        clip: largest norm of the gradient.
        augment: ``"light"`` or ``"none"``.
        precision: of the forward passes.
        val_images: most validation images that are looked at; None takes all.
        test_images: most test images that are looked at; None takes all.
    """

    backbone: str
    image_size: int | None = None
    epochs: int | dict[int, int] = 20
    batch_size: int = 16
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    augment: str = "light"
    precision: str = "auto"
    val_images: int | None = 250
    test_images: int | None = 1000

    def epochs_of(self, size: int) -> int:
        """Return the passes over so many training images."""
        return self.epochs if isinstance(self.epochs, int) else self.epochs[size]


@dataclass(frozen=True)
class MoreSeeds:
    """Seeds beside a study's own, where a difference is to be known better.

    Attributes:
        methods: names of the methods that get them.
        sizes: numbers of training images at which they do.
        seeds: the seeds; none of the study's own.
    """

    methods: list[str]
    sizes: list[int]
    seeds: list[int]


@dataclass(frozen=True)
class Cell:
    """One training of a study: everything that its result follows from, but the machine.

    Attributes:
        kind: ``"tune"``, looked at on validation images, or ``"test"``, with the chosen rate on test images too.
        method: the method.
        rank: its rank, or None.
        data: name of the data set.
        source: where the data set is from, as the study says.
        size: training images.
        seed: of subset, order, augmentation and first values.
        rate: largest step size.
        protocol: what is the same for all, with the epochs of this size.
    """

    kind: str
    method: Method
    rank: int | None
    data: str
    source: dict[str, Any]
    size: int
    seed: int
    rate: float
    protocol: Protocol

    @property
    def key(self) -> str:
        """A digest of all of it; a cell whose key stands in the results is not run again."""
        return _digest(self.to_dict())

    @property
    def training(self) -> str:
        """A digest of the training alone: a tuning cell and a test cell of the same rate train the same."""
        return _digest(self.to_dict() | {"kind": None})

    @property
    def group(self) -> tuple[str, int | None, str, int]:
        """The cells that one rate is chosen for: method, rank, data set, size."""
        return self.method.name, self.rank, self.data, self.size

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Cell:
        """Return the cell that `to_dict` was asked of."""
        whole = {"method": Method(**values["method"]), "protocol": Protocol(**values["protocol"])}
        return cls(**{**values, **whole})


@dataclass(frozen=True)
class Study:
    """A whole study.

    Attributes:
        name: that of the file.
        methods: what is compared; the first whose name is `reference` is what the others are compared with.
        reference: name of the method of which differences are taken.
        probe: name of the method with nothing but a head, above which gains are counted; None where there is none.
        data: the data sets by name: ``folder`` (from the shared folder) and ``labels``, or ``drawn`` (images a side);
            ``screen`` takes so many training images instead of the test images.
        ranks: of the methods that have one.
        sizes: numbers of training images.
        seeds: of the trainings that are reported.
        tune_seeds: of those that a rate is chosen by.
        rates: multiples of a method's `rate`, the same for every method.
        protocol: what is the same for all.
        more_seeds: trainings beside them that are reported too.
    """

    name: str
    methods: tuple[Method, ...]
    reference: str
    probe: str | None
    data: dict[str, dict[str, Any]]
    ranks: tuple[int, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    tune_seeds: tuple[int, ...]
    rates: tuple[float, ...]
    protocol: Protocol
    more_seeds: MoreSeeds | None = None

    def blocks(self) -> Iterator[tuple[str, int]]:
        """Yield data set and size in the order in which they are worked through."""
        for size in self.sizes:
            for data in self.data:
                yield data, size

    def groups(self, data: str, size: int) -> Iterator[Cell]:
        """Yield one cell a method and rank, which stands for its group."""
        protocol = dataclasses.replace(self.protocol, epochs=self.protocol.epochs_of(size))
        for method in self.methods:
            for rank in self.ranks_of(method):
                yield Cell(TUNE, method, rank, data, self.data[data], size, self.seeds[0], method.rate, protocol)

    def tune_cells(self, data: str, size: int) -> Iterator[Cell]:
        """Yield the trainings that rates are chosen by; with one rate there is nothing to choose."""
        if len(self.rates) == 1:
            return
        for seed in self.tune_seeds:
            for cell in self.groups(data, size):
                for rate in self.rates_of(cell.method):
                    yield dataclasses.replace(cell, seed=seed, rate=rate)

    def test_cells(self, data: str, size: int, chosen: dict[tuple[Any, ...], float]) -> Iterator[Cell]:
        """Yield the trainings that are reported, of those groups whose rate is known."""
        more = self.more_seeds
        for seed in (*self.seeds, *(more.seeds if more else ())):
            for cell in self.groups(data, size):
                rate = chosen.get(cell.group) if len(self.rates) > 1 else self.rates_of(cell.method)[0]
                wanted = seed in self.seeds or (more and cell.method.name in more.methods and size in more.sizes)
                if wanted and rate is not None:
                    yield dataclasses.replace(cell, kind=TEST, seed=seed, rate=rate)

    def ranks_of(self, method: Method) -> tuple[int | None, ...]:
        """Return the ranks in which a method is run."""
        if method.base in RANKLESS:
            return (None,)
        return self.ranks if method.rank is None else (method.rank,)

    def rates_of(self, method: Method) -> tuple[float, ...]:
        """Return the step sizes that are tried for a method."""
        return tuple(float(f"{method.rate * factor:.4g}") for factor in self.rates)


def read_study(path: Path) -> Study:
    """Read a study.

    Raises:
        InputError: a file that cannot be read as a study; code ``"study"``.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _wrong("The study cannot be read", f"{path.name}: {error}", "Give a YAML file.") from error
    if not isinstance(values, dict):
        raise _wrong("The study is no table of options", path.name, "See benchmarks/studies/main.yaml.")
    return study_of(path.stem, values)


def study_of(name: str, values: dict[str, Any]) -> Study:
    """Return the study of values as a YAML file has them.

    Raises:
        InputError: the first option that cannot be used; code ``"study"``.
    """
    needed = {"methods", "data", "sizes", "seeds", "protocol"}
    known = needed | {"ranks", "rates", "tune_seeds", "reference", "probe", "more_seeds"}
    _require_names("options", values, known, needed)
    methods = tuple(_method(entry) for entry in values["methods"])
    protocol = _made(Protocol, values["protocol"], "protocol")
    study = Study(
        name=name, methods=methods, reference=values.get("reference", methods[0].name), probe=values.get("probe"),
        data=dict(values["data"]), ranks=tuple(values.get("ranks", (8,))), sizes=tuple(values["sizes"]),
        seeds=tuple(values["seeds"]), tune_seeds=tuple(values.get("tune_seeds", values["seeds"][:1])),
        rates=tuple(float(rate) for rate in values.get("rates", (1.0,))), protocol=protocol,
        more_seeds=_made(MoreSeeds, values["more_seeds"], "more_seeds") if "more_seeds" in values else None,
    )  # fmt: skip
    _check(study)
    return study


def quick(study: Study) -> Study:
    """Return a study's methods on the smallest of everything: drawn images, an untrained backbone, one pass."""
    protocol = dataclasses.replace(
        study.protocol, backbone="vit_tiny_untrained", image_size=128, epochs=1, val_images=12, test_images=12
    )
    return dataclasses.replace(
        study, data={"drawn": {"drawn": {"train": 24, "val": 12, "test": 12}, "pixels": 128}}, ranks=study.ranks[:1],
        sizes=(20,), seeds=study.seeds[:1], tune_seeds=study.seeds[:1], rates=(1.0,), protocol=protocol,
        more_seeds=None,
    )  # fmt: skip


def part_of(study: Study, methods: list[str] | None, data: list[str] | None, sizes: list[str] | None) -> Study:
    """Return a study of some of its methods, data sets and sizes alone, by name; None keeps all.

    Raises:
        InputError: a name that is none of the study's; code ``"study"``.
    """
    held = {"methods": [m.name for m in study.methods], "data": list(study.data), "sizes": list(map(str, study.sizes))}
    for what, wanted in zip(held, (methods, data, sizes), strict=True):
        if unknown := [name for name in wanted or () if name not in held[what]]:
            raise _wrong(f"The study has none of these {what}", unknown[0], f"It has {', '.join(held[what])}.")
    return dataclasses.replace(
        study, methods=tuple(m for m in study.methods if methods is None or m.name in methods),
        data={name: source for name, source in study.data.items() if data is None or name in data},
        sizes=tuple(size for size in study.sizes if sizes is None or str(size) in sizes),
    )  # fmt: skip


def _method(entry: Any) -> Method:
    if not isinstance(entry, dict):
        raise _wrong("A method is no table of options", entry, "Give name and base.")
    method: Method = _made(Method, _named_by_text({"base": entry.get("name"), **entry}), "method")
    return method


def _named_by_text(value: Any) -> Any:
    """JSON names everything by text; a level's number in YAML is to give the same digest."""
    if isinstance(value, dict):
        return {str(name): _named_by_text(item) for name, item in value.items()}
    return [_named_by_text(item) for item in value] if isinstance(value, list) else value


def _made(kind: Any, values: dict[str, Any], what: str) -> Any:
    fields = dataclasses.fields(kind)
    needed = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    _require_names(what, values, {f.name for f in fields}, needed)
    return kind(**values)


def _require_names(what: str, values: dict[str, Any], known: set[str], needed: set[str]) -> None:
    if unknown := sorted(set(values) - known):
        raise _wrong(f"The {what} of the study holds a name that is not known", unknown[0],
                     f"Known are {', '.join(sorted(known))}.")  # fmt: skip
    if missing := sorted(needed - set(values)):
        raise _wrong(f"The {what} of the study is not whole", f"no {missing[0]}", f"Give {', '.join(missing)}.")


def _check(study: Study) -> None:
    names = [method.name for method in study.methods]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _wrong("Two methods have one name", twice[0], "Name every method by a name of its own.")
    for role in ("reference", "probe"):
        named = getattr(study, role)
        if named is not None and named not in names:
            raise _wrong(f"The {role} is none of the methods", named, f"Use one of {', '.join(names)}.")
    more = study.more_seeds
    if more and (unknown := sorted(set(more.methods) - set(names))):
        raise _wrong("More seeds are asked for a method that is none of the study's", unknown[0],
                     f"Use some of {', '.join(names)}.")  # fmt: skip
    if more and (twice_seeds := sorted(set(more.seeds) & set(study.seeds))):
        raise _wrong("A seed is named twice", twice_seeds[0], "Name in more_seeds none of the study's own seeds.")
    for size in study.sizes:
        if size not in LADDER:
            raise _wrong("Training sizes come from one ladder, so that small sets lie in large ones", size,
                         f"Use some of {', '.join(map(str, LADDER))}.")  # fmt: skip
        if not isinstance(study.protocol.epochs, int) and size not in study.protocol.epochs:
            raise _wrong("The epochs of a size are not said", size, "Give protocol.epochs as a number, or by size.")
    for options in study.data.values():
        if not isinstance(options, dict) or ("folder" in options) == ("drawn" in options):
            raise _wrong("A data set says not where its images are", options, "Give folder, or drawn.")
    if min(len(study.seeds), len(study.tune_seeds), len(study.rates), len(study.ranks)) < 1:
        raise _wrong("The study has nothing to run", "an empty list", "Give seeds, tune_seeds, rates and ranks.")


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _wrong(what: str, seen: Any, remedy: str) -> InputError:
    return InputError(what, seen=str(seen)[:200], remedy=remedy, code="study")
