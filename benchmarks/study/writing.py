"""The tables of a study as Markdown, its figures, and the page between whose markers both are put."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks import report
from benchmarks.study.comparison import Estimate, Label, Place, Row, compare_methods, mean_of
from benchmarks.study.figures import draw_costs, draw_differences
from benchmarks.study.plan import Study
from benchmarks.study.results import Results
from wara.errors import InputError
from wara.evaluation.efficiency import pme, ppe

Rows = dict[Label, dict[Place, Row]]


def write_all(study: Study, results: Results, out: Path, page: Path | None, *, replicates: int) -> str:
    """Write tables and figures beside the results, put both into a page if one is named, and return the tables."""
    rows = compare_methods(study, results, replicates=replicates)
    if not rows:
        return "No cell is done yet."
    out.mkdir(parents=True, exist_ok=True)
    figures = []
    for data in study.data:
        picture = draw_differences(study, rows, data)
        if picture is not None:
            figures.append(out / f"differences_{data}.png")
            figures[-1].write_bytes(picture)
    figures.append(out / "costs.png")
    figures[-1].write_bytes(draw_costs(study, rows))
    text = tables(study, rows, results)
    (out / "tables.md").write_text(text + "\n", encoding="utf-8")
    if page is not None:
        _put(page, study.name, text, figures)
    return text


def tables(study: Study, rows: Rows, results: Results) -> str:
    """Return all tables: in short, by data set, costs, step sizes, and what they were made on."""
    parts = [f"#### In short\n\n{_summary(study, rows)}"]
    for data in study.data:
        sizes = [size for size in study.sizes if any((data, size) in by_place for by_place in rows.values())]
        if sizes:
            parts.append(f"#### {data}\n\n{_of_data(study, rows, data, sizes)}")
    parts += [f"#### Costs\n\n{_costs(study, rows)}", f"#### Chosen step sizes\n\n{_rates(study, rows)}"]
    return "\n\n".join([*parts, _made_on(results)])


def called(label: Label) -> str:
    """Return what a method at a rank is called."""
    return label[0] if label[1] is None else f"{label[0]}, rank {label[1]}"


def signed(estimate: Estimate) -> str:
    """Return a difference with its interval, bold where that is clear of zero."""
    text = f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
    return f"**{text}**" if estimate.clear else text


def _summary(study: Study, rows: Rows) -> str:
    lines = [
        f"Differences of the test AUROC from {study.reference}, same seeds. Kept: the share of {study.reference}'s "
        f"gain over {study.probe or 'a linear probe'}, mean over data sets and sizes.\n",
        "| method | numbers in the adapter | mean difference | best | worst | clearly better / worse | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for label, by_place in rows.items():
        found = {place: row.difference for place, row in by_place.items() if row.difference is not None}
        adapter = next(iter(by_place.values())).mean("adapter")
        head = f"| {called(label)} | {adapter:,.0f} |"
        if not found:
            lines.append(f"{head} – | – | – | – | {_kept(study, rows, label)} |")
            continue
        best = max(found, key=lambda place: found[place].value)
        worst = min(found, key=lambda place: found[place].value)
        better, worse = sum(e.low > 0 for e in found.values()), sum(e.high < 0 for e in found.values())
        lines.append(
            f"{head} {signed(mean_of(found.values()))} | {found[best].value:+.3f} ({best[0]}, {best[1]}) "
            f"| {found[worst].value:+.3f} ({worst[0]}, {worst[1]}) | {better} / {worse} of {len(found)} "
            f"| {_kept(study, rows, label)} |"
        )
    return "\n".join(lines)


def _kept(study: Study, rows: Rows, label: Label) -> str:
    probe = rows.get((study.probe, None), {}) if study.probe is not None else {}
    reference = rows.get((study.reference, label[1])) or rows.get((study.reference, study.ranks[0]), {})
    gained = whole = 0.0
    for place in rows[label]:
        if place in probe and place in reference:
            three = [row[place].areas for row in (rows[label], reference, probe)]
            # Methods may have other numbers of seeds, and seeds differ more than methods.
            common = set.intersection(*map(set, three))
            own, best, least = (sum(areas[seed] for seed in common) for areas in three)
            gained += (own - least) / max(len(common), 1)
            whole += (best - least) / max(len(common), 1)
    return f"{gained / whole:.0%}" if whole > 0 else "–"


def _of_data(study: Study, rows: Rows, data: str, sizes: list[int]) -> str:
    seeds = {size: max(len(by[data, size].cells) for by in rows.values() if (data, size) in by) for size in sizes}
    heads = [f"{size} images, {seeds[size]} seeds" for size in sizes]
    lines = [f"| method | {' | '.join(heads)} |", f"|---|{'---|' * len(sizes)}"]
    for label, by_place in rows.items():
        texts = [_of_place(by_place.get((data, size)), seeds[size]) for size in sizes]
        lines.append(f"| {called(label)} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _of_place(row: Row | None, seeds: int) -> str:
    if row is None:
        return "–"
    text = f"{row.area.value:.3f}"
    if row.difference is not None:
        text += f", {signed(row.difference)}"
    own = len(row.cells)
    return text if own == seeds else f"{text} ({own} seed{'s' if own > 1 else ''})"


def _costs(study: Study, rows: Rows) -> str:
    lines = [
        "Means over seeds and data sets at the largest size that a method has. PPE and PME: AUROC set against trained "
        "numbers and memory of full fine-tuning.\n",
        "| method | trained numbers (in the adapter) | training | images/s | peak memory | PPE | PME |",
        "|---|---|---|---|---|---|---|",
    ]
    full = next((rows.get((method.name, None), {}) for method in study.methods if method.base == "full"), {})
    for label, by_place in rows.items():
        size = max(place[1] for place in by_place)
        some = [(place, row) for place, row in by_place.items() if place[1] == size]
        means = {
            name: _mean([row.mean(name) for _, row in some])
            for name in ("trained", "adapter", "seconds", "images_per_second", "peak_memory_mb")
        }
        lines.append(
            f"| {called(label)} | {means['trained']:,.0f} ({means['adapter']:,.0f}) | {means['seconds']:.0f} s "
            f"| {means['images_per_second']:.1f} | {_or_dash(means['peak_memory_mb'], ',.0f', ' MiB')} "
            f"| {_efficiency(full, some)} |"
        )
    return "\n".join(lines)


def _efficiency(full: dict[Place, Row], some: list[tuple[Place, Row]]) -> str:
    by_parameters, by_memory = [], []
    for place, row in some:
        if place in full and (trained := row.mean("trained")) is not None:
            by_parameters.append(ppe(row.area.value, trained, full[place].mean("trained") or 0.0))
            memory, most = row.mean("peak_memory_mb"), full[place].mean("peak_memory_mb")
            if memory is not None and most is not None:
                by_memory.append(pme(row.area.value, memory, most))
    return f"{_or_dash(_mean(by_parameters), '.3f')} | {_or_dash(_mean(by_memory), '.3f')}"


def _rates(study: Study, rows: Rows) -> str:
    factors = ", ".join(f"{factor:g}" for factor in study.rates)
    places = [place for place in study.blocks() if any(place in by_place for by_place in rows.values())]
    lines = [
        f"Every method's grid is its centre times {factors}; chosen by the AUROC on validation images of the seeds "
        f"{', '.join(map(str, study.tune_seeds))}. A star: at the edge of its grid.\n",
        f"| method | centre | {' | '.join(f'{data}, {size}' for data, size in places)} |",
        f"|---|---|{'---|' * len(places)}",
    ]
    methods = {method.name: method for method in study.methods}
    for label, by_place in rows.items():
        grid = study.rates_of(methods[label[0]])
        edges = {min(grid), max(grid)} if len(grid) > 1 else set()
        texts = [
            f"{by_place[place].rate:g}{'*' if by_place[place].rate in edges else ''}" if place in by_place else "–"
            for place in places
        ]
        lines.append(f"| {called(label)} | {methods[label[0]].rate:g} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _made_on(results: Results) -> str:
    devices = sorted({f"{entry['device']} in {entry['precision']}" for entry in results.cells.values()})
    here = report.machine()
    note = " Devices are mixed: pairs of one seed may have run on different ones." if len(devices) > 1 else ""
    return (
        f"{len(results.cells)} trainings on {', '.join(devices)}; tables made with Python {here['python']}, torch "
        f"{here['torch']}.{note}"
    )


def _put(page: Path, name: str, text: str, figures: list[Path]) -> None:
    """Replace what stands between a page's markers of this study."""
    start, end = f"<!-- results of {name} -->", f"<!-- end of results of {name} -->"
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise InputError(
            "The page has no place for the results", seen=page.name, remedy=f"Put {start} and {end} into it.",
            code="study-page",
        )  # fmt: skip
    links = [
        f"![{figure.stem.replace('_', ' ')}]({Path(os.path.relpath(figure, page.parent)).as_posix()})"
        for figure in figures
    ]  # fmt: skip
    page.write_text("\n\n".join([before + start, text, *links, end + after]), encoding="utf-8")


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _or_dash(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"
