"""Methods beside each other on the same images: which is better, by how much, with what certainty, at what cost.

    python -m benchmarks.method_study STUDY.yaml [--shared DIR] [--out DIR] [--workers N] [--device auto|cpu|cuda]
    python -m benchmarks.method_study STUDY.yaml --list          the cells, what is done, and the time left
    python -m benchmarks.method_study STUDY.yaml --only-table    the tables of what is done
    python -m benchmarks.method_study [STUDY.yaml] --quick       its methods on drawn images, to try the command

Methods x data sets x ranks x training sizes x seeds. Every method of a seed has the same training images in the same
order with the same changes, and the same first head. Step sizes are chosen on validation images from a grid of the same
width for every method; the test images are looked at once, with the chosen one. A finished cell is a line of
``results.jsonl``; a run that was killed goes on where it was. Then tables and figures of paired differences, whose
intervals come from drawing seeds and test patients anew. DIR of ``--shared`` (or ``WARA_SHARED``) holds the folders and
weights that the study names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.study.images import shared_folder
from benchmarks.study.plan import Study, part_of, quick, read_study
from benchmarks.study.results import Results
from benchmarks.study.running import Setting, run_study, seconds_left
from benchmarks.study.writing import write_all
from wara.errors import InputError

STUDIES = Path(__file__).resolve().parent / "studies"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, list or tell a study."""
    options = _parser().parse_args(arguments)
    if options.study is None and not options.quick:
        _parser().error("name a study, or give --quick")
    try:
        study = read_study(options.study or STUDIES / "quick.yaml")
        if not options.quick:
            return _do(study, options, options.out or report.RESULTS / "method_study" / study.name)
        if options.out is not None:
            return _do(quick(study), options, options.out)
        with tempfile.TemporaryDirectory() as scratch:
            return _do(quick(study), options, Path(scratch))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def _do(study: Study, options: argparse.Namespace, out: Path) -> int:
    cache = options.cache or (out if options.out or options.quick else out.parent) / "pixels"
    setting = Setting(out, cache, shared_folder(options.shared), options.device, options.workers)
    wanted = part_of(study, *(given and given.split(",") for given in (options.methods, options.data, options.sizes)))
    if options.list:
        _tell_cells(wanted, Results(setting.results), options.workers)
        return 0
    failed = 0 if options.only_table else run_study(wanted, setting)
    print(write_all(study, Results(setting.results), out, options.docs, replicates=options.replicates))
    if failed:
        print(f"{failed} cells could not be run; what was wrong stands above.", file=sys.stderr)
    return 1 if failed else 0


def _tell_cells(study: Study, results: Results, workers: int) -> None:
    print("| data | training images | cells | left | time left |\n|---|---|---|---|---|")
    total, workers = 0.0, max(workers, 1)
    for (data, size), (cells, missing, seconds) in seconds_left(study, results).items():
        total += seconds / workers
        print(f"| {data} | {size} | {cells} | {missing} | {_hours(seconds / workers)} |")
    print(f"\n{_hours(total)} left with {workers} workers")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", help="YAML file; see benchmarks/studies")
    parser.add_argument("--shared", type=Path, help="folder that the study's data and weights are looked for from")
    parser.add_argument("--out", type=Path, help="folder of the results; else benchmarks/results/method_study/NAME")
    parser.add_argument("--cache", type=Path, help="folder of decoded pixels; else OUT/pixels, or beside all studies")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each on CPUs; 0: this one")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--replicates", type=int, default=2000, help="draws behind each interval")
    parser.add_argument("--docs", type=Path, help="page between whose markers the tables are put")
    parser.add_argument("--methods", help="run these alone of the study's, by commas; the tables tell all")
    parser.add_argument("--data", help="the same of data sets")
    parser.add_argument("--sizes", help="the same of training sizes")
    parser.add_argument("--list", action="store_true", help="tell cells and time left, run nothing")
    parser.add_argument("--only-table", action="store_true", help="tell what is done, run nothing")
    parser.add_argument("--quick", action="store_true", help="drawn images, one pass: to try the command")
    return parser


if __name__ == "__main__":
    sys.exit(main())
