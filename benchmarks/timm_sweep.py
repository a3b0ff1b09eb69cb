"""WaRA and Tiny-WaRA in every architecture of timm that has attention over a grid of patches.

    python -m benchmarks.timm_sweep [--families beit,eva] [--limit N] [--workers 2] [--json FILE] [--markdown FILE]
    python -m benchmarks.timm_sweep --families eva --update FILE  # run some families again, and put them into a result

Each architecture is made small (the same structure, fewer and narrower blocks, small images, weights drawn here), both
methods are put in with the layers that they choose by themselves, and a step is trained with two images. It counts as

- adapted: outputs are finite, a gradient reaches every adapted layer, and another adapter gives other outputs;
- refused: both methods say why not, with one and the same message, before anything is changed;
- no attention: no module in it lets positions of the image look at each other (squeeze and excitation, and other
  weights of channels, do not count); an adapter on patch tokens has no place there, and it is not counted as refused;
- crashed: anything else, a refusal while it runs too. The command then ends with exit code 1.

Architectures that do not differ once they are made small are run once ("runs") and share the outcome.
"""

from __future__ import annotations

import argparse
import collections
import json
import platform
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import report
from benchmarks.timm_catalogue import families
from benchmarks.timm_trial import OUTCOMES, Outcome, try_architecture
from benchmarks.workers import Died, Task, spread

NO_ATTENTION = "no attention"


def main(arguments: list[str] | None = None) -> int:
    """Try the architectures and print the table; 1 when one of them crashed."""
    options = _parser().parse_args(arguments)
    if options.update is not None and not options.families:
        raise SystemExit("--update needs --families: those that are run again. Without it, use --json.")
    start = time.monotonic()
    outcomes: list[Outcome] = []
    for (family, name), answer in spread(_work, _series(options), options.workers, options.limit_s):
        if isinstance(answer, Died):
            answer = Outcome(name, family, "crashed", answer.reason, seconds=round(answer.seconds, 2))
        outcomes.append(answer)
        if options.verbose:
            print(f"{answer.outcome:13} {name} {answer.seconds} s {answer.reason}", file=sys.stderr, flush=True)
    seconds = time.monotonic() - start
    if options.update is not None:
        options.json = options.update
        earlier, before = _earlier(options.update)
        outcomes += [one for one in earlier if one.family not in options.families.split(",")]
        seconds += before
    outcomes.sort(key=lambda one: (one.family, one.name))
    print(as_text(outcomes))
    print(f"\n{_measured(options, seconds)}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(_as_json(outcomes, seconds), encoding="utf-8")
    if options.markdown is not None:
        text = as_text(outcomes, without_attention=False)
        options.markdown.write_text(f"{text}\n\n{_measured(options, seconds)}\n", encoding="utf-8")
    return exit_code(outcomes)


def exit_code(outcomes: list[Outcome]) -> int:
    """Return 1 when an architecture crashed."""
    return int(any(one.outcome == "crashed" for one in outcomes))


def as_text(outcomes: list[Outcome], without_attention: bool = True) -> str:
    """Return the table by family, the totals, and each reason once.

    Args:
        outcomes: of all architectures.
        without_attention: whether families in which nothing has attention get a line of their own.
    """
    lines = ["| family | architectures | adapted | refused | crashed | no attention | runs |", "|---|" + "---:|" * 6]
    by_family: dict[str, list[Outcome]] = collections.defaultdict(list)
    for one in outcomes:
        by_family[one.family].append(one)
    left_out = 0
    for family, members in by_family.items():
        if without_attention or any(one.outcome != NO_ATTENTION for one in members):
            lines.append(_line(family, members))
        else:
            left_out += 1
    more = f" ({left_out} families without any attention not shown)" if left_out else ""
    lines.append(_line(f"**all**{more}", outcomes))
    for outcome, title in (("refused", "Refused, and why"), ("crashed", "Crashed")):
        if reasons := grouped(outcomes, outcome):
            lines += ["", f"{title}:", ""]
            lines += [f"- {len(members)}, e.g. {members[0].name}: {members[0].reason}" for members in reasons]
    return "\n".join(lines)


def grouped(outcomes: list[Outcome], outcome: str) -> list[list[Outcome]]:
    """Return the architectures of an outcome by reason, the most frequent first; names and numbers make no other."""
    by_reason: dict[str, list[Outcome]] = collections.defaultdict(list)
    for one in outcomes:
        if one.outcome == outcome:
            text = re.sub(r" \(\d+ more layers are refused as well\.\)|\([A-Z]\w+ at ", "", one.reason)
            by_reason[re.sub(r"'[^']*'|\d+", "…", text)].append(one)
    return sorted(by_reason.values(), key=len, reverse=True)


def _line(name: str, members: list[Outcome]) -> str:
    counted = collections.Counter(one.outcome for one in members)
    runs = sum(one.outcome != NO_ATTENTION and not one.same_as for one in members)
    numbers = [len(members), *(counted[outcome] for outcome in OUTCOMES), runs]
    return f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |"


def _measured(options: argparse.Namespace, seconds: float) -> str:
    chosen = "".join(
        f" --{key} {getattr(options, key)}" for key in ("families", "limit", "update") if getattr(options, key)
    )
    machine = report.machine()
    packages = ", ".join(f"{name} {number}" for name, number in _versions().items())
    return (
        f"`python -m benchmarks.timm_sweep{chosen} --workers {options.workers}`: {seconds / 60:.1f} min, one thread a "
        f"worker, on {machine['cores']} cores of {machine['cpu']}; {packages}."
    )


def _earlier(file: Path) -> tuple[list[Outcome], float]:
    """Return the outcomes in a file that an earlier call wrote, and the seconds that they took."""
    stored = json.loads(file.read_text(encoding="utf-8"))
    found = []
    for row in stored["architectures"]:
        reason = stored["reasons"][row["reason"]] if "reason" in row else ""
        found.append(Outcome(**{**row, "reason": reason, "grids": tuple(row["grids"])}))
    for family, names in stored[NO_ATTENTION].items():
        found += [Outcome(name, family, NO_ATTENTION) for name in names]
    return found, float(stored["seconds"])


def _as_json(outcomes: list[Outcome], seconds: float) -> str:
    """Return everything as JSON, an architecture a line; of those without attention only the names."""
    machine = report.machine()
    head: dict[str, Any] = {
        "machine": {key: machine[key] for key in ("cpu", "cores")},
        "versions": _versions(),
        "seconds": round(seconds),
        "totals": dict(collections.Counter(one.outcome for one in outcomes)),
    }
    reasons = sorted({one.reason for one in outcomes if one.reason})
    rows = [
        {
            "name": one.name, "family": one.family, "outcome": one.outcome, "grids": list(one.grids),
            "side": one.side, "left_out": one.left_out, "seconds": one.seconds,
            **({"reason": reasons.index(one.reason)} if one.reason else {}),
            **({"same_as": one.same_as} if one.same_as else {}),
        }
        for one in outcomes
        if one.outcome != NO_ATTENTION
    ]  # fmt: skip
    without: dict[str, list[str]] = collections.defaultdict(list)
    for one in outcomes:
        if one.outcome == NO_ATTENTION:
            without[one.family].append(one.name)
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    parts.append('"reasons": [\n' + ",\n".join(map(json.dumps, reasons)) + "\n]")
    parts.append('"architectures": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]")
    parts.append(
        '"no attention": {\n' + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in without.items()) + "\n}"
    )
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in ("timm", "torch", "peft")}}


def _series(options: argparse.Namespace) -> list[list[Task]]:
    """Return the architectures of each chosen family, the largest family first, so that none is left for the end.

    Raises:
        SystemExit: a family that timm does not have.
    """
    known = families()
    chosen = options.families.split(",") if options.families else list(known)
    if unknown := sorted(set(chosen) - set(known)):
        raise SystemExit(f"--families has {unknown[0]!r}, which is no family of timm. Use some of {', '.join(known)}.")
    series = [[(family, name) for name in known[family][: options.limit]] for family in chosen]
    return sorted(series, key=len, reverse=True)


def _work(task: Task, kept: dict[str, Any]) -> Outcome:
    torch.set_num_threads(1)
    return try_architecture(*task, kept)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", help="families of timm, with commas; all by default")
    parser.add_argument("--limit", type=int, help="at most so many architectures a family")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--limit-s", type=float, default=600, help="seconds that one architecture may take")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--update", type=Path, metavar="JSON", help="a result in which the --families are replaced")
    parser.add_argument("--markdown", type=Path, help="the table without families that have no attention")
    parser.add_argument("--verbose", action="store_true", help="a line for each architecture as it is done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
