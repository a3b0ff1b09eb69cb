"""The command line: check, fetch, train, predict, explain, analyse and export. ``python -m wara --help``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from wara.cli_files import AnswerTables, contents, how_many, in_words, named_safely, print_left_out, shown
from wara.cli_recipe import decisions_of, mapping_of, pairs, recipe_from, require_something_to_go_on_with
from wara.cli_stop import stopping_by_keys
from wara.console import RunView, metrics_table, span
from wara.errors import InputError, UnreadableImage
from wara.label_options import (
    Columns,
    LabelOptions,
    Labels,
    LabelTag,
    MappingFile,
    PatientTag,
    Pattern,
    Sheet,
)
from wara.report_view import print_findings, print_report, print_splits

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fine-tune vision transformers on medical images by WaRA. A research tool, not a medical device.",
)

Seed = Annotated[int, typer.Option(help="Seed of split, order and initialisation.")]
Decisions = Annotated[Path | None, typer.Option(help="JSON of decisions about findings, as check --fix writes it.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Frames = Annotated[
    str | None, typer.Option(help="Of DICOM files of several images: first, middle or all.", show_default="middle")
]
Window = Annotated[
    int | None, typer.Option(help="Number of the DICOM window, where files have several.", show_default="1")
]
BackboneFile = Annotated[str | None, typer.Option(help="NAME:FILE, when the weights file has moved since training.")]
Data = Annotated[Path, typer.Argument(help="Folder or zip of images.")]
Run = Annotated[Path, typer.Argument(help="Folder that train wrote.")]
# Each costs some forward and backward passes; beyond these the figures hardly move.
_IMAGES_A_CLASS, _IMAGES_CHECKED = 50, 4


@app.command()
def check(
    data: Data,
    labels: Labels = None,
    columns: Columns = None,
    sheet: Sheet = None,
    pattern: Pattern = None,
    label_tag: LabelTag = None,
    patient_tag: PatientTag = None,
    mapping_file: MappingFile = None,
    seed: Seed = 0,
    frames: Frames = None,
    window: Window = None,
    fix: Annotated[
        list[str] | None, typer.Option(help="FINDING=drop, move, group, accept, e.g. leaks=move. Repeatable; in order.")
    ] = None,
    decisions: Decisions = None,
) -> None:
    """Read a data set and report what is in it, without training; --fix records in --decisions what to do about it."""
    from wara.data.catalogue import read_catalogue
    from wara.data.checks import require_trainable
    from wara.data.decisions import apply_decisions, read_decisions, write_decisions
    from wara.data.findings import decide, find
    from wara.data.ingest import ingest
    from wara.data.report import data_report
    from wara.data.sources import open_source
    from wara.data.split import make_split
    from wara.imaging.view import DEFAULT_VIEW, DicomView

    fixes = pairs(fix or [], "A fix is not FINDING=FIX", "Write e.g. --fix leaks=move.", "fix-form")
    if fixes and decisions is None:
        raise InputError(
            "The decisions have no file to be kept in", seen=f"--fix {(fix or [''])[0]}",
            remedy="Name one, new or to be continued: --decisions FILE; then train with the same.",
            code="decisions-file-needed",
        )  # fmt: skip
    decided = read_decisions(decisions) if decisions is not None and (decisions.exists() or not fixes) else []
    shown = DicomView(frames or DEFAULT_VIEW.frames, DEFAULT_VIEW.window if window is None else window)
    shown.validate()
    options = LabelOptions(labels, columns, sheet, pattern, label_tag, patient_tag, mapping_file)
    mapping, guessed = options.resolve(data)
    with RunView() as view:
        for sentence in guessed:
            view.console.print(f"Guessed: {sentence}", markup=False)
        with open_source(data) as source:
            catalogue = read_catalogue(source, labels, mapping)
            catalogue, _ = ingest(
                source, catalogue, view=shown, on_progress=lambda done, total: view.progress("Reading", done, total)
            )
        now = apply_decisions(catalogue, decided)
        print_report(view, data_report(now, findings=[]))
        require_trainable(now)
        split = make_split(now, seed)
        found = find(now, split)
        for finding, chosen in fixes:
            decided.append(decide(found, now.items, finding, chosen))
            now = apply_decisions(catalogue, decided)
            require_trainable(now)
            split = make_split(now, seed)
            found = find(now, split)
        if fixes and decisions is not None:
            write_decisions(decisions, decided)
        report = data_report(now, split, findings=found, decisions=decided)
    print_splits(view, report)
    print_findings(view, report)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="medmnist:NAME, e.g. medmnist:pneumoniamnist.")],
    out: Annotated[Path, typer.Option(help="New folder for the images.")],
    size: Annotated[int, typer.Option(help="Height and width in pixels: 28, 64, 128 or 224.")] = 224,
    file: Annotated[Path | None, typer.Option(help="The set's .npz on this machine; the network is not asked.")] = None,
) -> None:
    """Fetch a public data set by name, in its official split."""
    from wara.data.public import fetch as fetch_public

    with RunView() as view:
        fetched = fetch_public(name, out, size, file=file, on_progress=view.progress)
        sides = ", ".join(f"{count:,} {side}" for side, count in fetched.images.items())
        view.console.print(f"{sum(fetched.images.values()):,} images ({sides}): {escape(shown(out))}")
        view.console.print(f"Licence of the images: {fetched.source.licence}", markup=False)
        if fetched.source.note:
            view.console.print(f"Note: {fetched.source.note}")


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    method: Annotated[
        str | None, typer.Option(help="wara, tiny-wara, lora, linear-probe or full.", show_default="wara")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="embedded, NAME:FILE, NAME or vit_tiny_untrained.", show_default="embedded")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="quick, balanced or thorough.", show_default="quick")] = None,
    labels: Labels = None,
    columns: Columns = None,
    sheet: Sheet = None,
    pattern: Pattern = None,
    label_tag: LabelTag = None,
    patient_tag: PatientTag = None,
    mapping_file: MappingFile = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the update.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Largest step size of the adapter.")] = None,
    wavelet: Annotated[str | None, typer.Option(help="haar, db2, sym4, bior2.2 ...")] = None,
    levels: Annotated[int | None, typer.Option(help="Depth of the wavelet transform.")] = None,
    gains: Annotated[str | None, typer.Option(help="none, subband or subband-rank.")] = None,
    activation: Annotated[str | None, typer.Option(help="none, gelu or soft-threshold.")] = None,
    class_balanced: Annotated[
        bool | None, typer.Option("--class-balanced", help="Weigh rare classes more.", show_default=False)
    ] = None,
    fit: Annotated[str | None, typer.Option(help="pad, crop or stretch to a square.")] = None,
    frames: Frames = None,
    window: Window = None,
    seed: Annotated[int | None, typer.Option(help="Seed of split, order and initialisation.", show_default="0")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.", show_default="auto")] = None,
    recipe_file: Annotated[
        Path | None, typer.Option("--recipe", help="recipe.json of a run to repeat; other options go before it.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Any other recipe field, KEY=VALUE, e.g. augment=none. Repeatable.")
    ] = None,
    decisions: Decisions = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
) -> None:
    """Fine-tune a backbone on a folder of images and write a run folder."""
    from wara.backbone_choices import UNTRAINED
    from wara.training import outputs
    from wara.training.loop import Stopped
    from wara.training.run import train as train_run

    if resume and recipe_file is None and (out / outputs.RECIPE).is_file():
        recipe_file = out  # goes on with what it was started with, without naming it again
    named = {
        "method": method, "backbone": backbone, "preset": preset, "epochs": epochs, "rank": rank,
        "batch_size": batch_size, "learning_rate": learning_rate, "wavelet": wavelet, "levels": levels, "gains": gains,
        "activation": activation, "class_balanced": class_balanced, "fit": fit, "frames": frames, "window": window,
        "seed": seed, "device": device,
    }  # fmt: skip
    if resume and recipe_file is None:
        require_something_to_go_on_with(out, option or [], named)
    recipe = recipe_from(recipe_file, option or [], named)
    if decisions is None and recipe_file is not None:
        decisions = decisions_of(recipe_file)
    if recipe.backbone == UNTRAINED:
        typer.echo("Note: this backbone is untrained. It shows the workflow; its scores mean nothing.", err=True)
    if recipe_file is not None and not any((mapping_file, columns, sheet, pattern, label_tag, patient_tag)):
        mapping_file = mapping_of(recipe_file, labels)
    options = LabelOptions(labels, columns, sheet, pattern, label_tag, patient_tag, mapping_file)
    mapping, guessed = options.resolve(data)
    with RunView() as view:
        for sentence in guessed:
            view.console.print(f"Guessed: {sentence}", markup=False)
        try:
            with stopping_by_keys(view.ending) as stop:
                metrics = train_run(
                    data, out, recipe, labels=labels, mapping=mapping, resume=resume, on_event=view,
                    decisions=decisions, stop=stop,
                )  # fmt: skip
        except (Stopped, KeyboardInterrupt):
            view.console.print(f"Stopped. The same command with --resume goes on with {escape(shown(out))}.")
            raise typer.Exit(130) from None
        classes = list(metrics["test"]["sensitivity"])
        view.console.print(metrics_table(metrics, classes))
        view.console.print(
            f"{metrics['trainable_parameters']:,} trained parameters ({metrics['adapter_parameters']:,} in the "
            f"adapter), {span(metrics['seconds'])}, {metrics['images_per_second']:.0f} images/s in training"
        )
        view.console.print(f"Run folder: {escape(shown(out))}")


@app.command()
def predict(
    run: Run,
    images: Annotated[list[Path], typer.Argument(help="Image files or folders of them.")],
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a row an image to this CSV.")] = None,
    patients_file: Annotated[
        Path | None, typer.Option("--patients-csv", help="Write a row a patient, all images together, to this CSV.")
    ] = None,
    backbone: BackboneFile = None,
    device: Device = "auto",
) -> None:
    """Classify images with a trained run. Parts of names that repeat a DICOM header are written as codes."""
    from wara.inference import Predictor

    predictor = Predictor.load(run, device=device, backbone=backbone)
    total = how_many(images)
    done = failed = 0
    with RunView() as view, AnswerTables(csv_file, patients_file, predictor, run) as tables:
        for done, p in enumerate(predictor.predict_each(named_safely(contents(images))), start=1):
            view.console.print(f"{p.file}: {in_words(p)}", markup=False)
            view.progress("Classifying", done, total, unit="files")
            tables.add(p)
            failed += p.error is not None
        patients = tables.finish()
        if csv_file is not None:
            view.console.print(f"Predictions: {escape(shown(csv_file))}")
        if patients_file is not None:
            view.console.print(f"Patients: {patients} in {escape(shown(patients_file))}")
        if failed:
            view.console.print(f"{failed} of {done} files could not be read.")
    if failed == done:
        raise typer.Exit(2)


@app.command()
def analyse(
    run: Run,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for figures and their data.")],
    labels: Labels = None,
    compare: Annotated[Path | None, typer.Option(help="Another run (LoRA's, say) to draw beside.")] = None,
    backbone: BackboneFile = None,
    device: Device = "auto",
) -> None:
    """Measure a run over a set of images: subband energy, singular spectra, the scales that each class used."""
    from wara.analysis import study
    from wara.analysis.class_scales_figure import read_class_scales
    from wara.analysis.images import LeftOut, labelled_batches
    from wara.analysis.reading import read_randomisation
    from wara.analysis.singular_spectrum import singular_spectrum
    from wara.data.mapping import kept_mapping
    from wara.inference import Predictor

    predictor = Predictor.load(run, device=device, backbone=backbone)
    _require_adapter(predictor.model, run)
    other = None
    if compare is not None:
        other_model = Predictor.load(compare, device=device, backbone=backbone).model
        _require_adapter(other_model, compare)
        other = singular_spectrum(other_model)
    with RunView() as view:
        # Without a table of its own, the data is taken to be labelled as what the run was trained on.
        mapping = kept_mapping(run) if labels is None else None
        progress, left_out = partial(view.progress, "Analysing"), LeftOut()
        batches = labelled_batches(predictor, data, labels, progress, mapping=mapping, left_out=left_out)
        precision = predictor.recipe["precision"]
        measured = study.measure(predictor.model, batches, predictor.classes, precision=precision)
        assert measured is not None  # there are adapted layers
        print_left_out(view, left_out)
        measured[study.ENERGY]["left_out"] = left_out.to_json()
        files = study.write(out, measured, compare=other)
        batches = labelled_batches(predictor, data, labels, partial(view.progress, "Explaining"), mapping=mapping)
        scales = study.measure_class_scales(
            predictor.model, batches, predictor.classes, per_class=_IMAGES_A_CLASS, check=_IMAGES_CHECKED
        )
        if scales is not None:
            files += study.write_class_scales(out, scales)
            view.console.print(read_class_scales(scales), markup=False)
            view.console.print(read_randomisation(scales["check"]), markup=False)
        for file in files:
            view.console.print(shown(file), markup=False)


@app.command()
def explain(
    run: Run,
    images: Annotated[list[Path], typer.Argument(help="Image files or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for a figure and its data an image.")],
    target: Annotated[
        str | None, typer.Option("--class", help="The class to explain.", show_default="the one that predict answers")
    ] = None,
    backbone: BackboneFile = None,
    device: Device = "auto",
) -> None:
    """Draw over each image where, and at which scale, the adapter decided its class. Names are coded as by predict."""
    from wara.analysis.explain import Explainer
    from wara.analysis.explanation_figure import write_explanation
    from wara.inference import Predictor

    explainer = Explainer(Predictor.load(run, device=device, backbone=backbone))
    failed = number = 0
    with RunView() as view:
        for number, (name, content) in enumerate(named_safely(contents(images)), start=1):
            try:
                if isinstance(content, InputError):
                    raise content
                found = explainer.explain(content, name, target=target)
            except UnreadableImage as error:
                failed += 1
                view.console.print(f"{name}: {error.sentence()}", markup=False)
                continue
            view.console.print(f"{name}: {found.sentence()}", markup=False)
            for file in write_explanation(out, number, found):
                view.console.print(shown(file), markup=False)
        if failed:
            view.console.print(f"{failed} of {number} files could not be read.")
    if failed == number:
        raise typer.Exit(2)


@app.command()
def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="File to write.")],
    kind: Annotated[str, typer.Option("--format", help="onnx, merged or peft.")] = "onnx",
    backbone: BackboneFile = None,
) -> None:
    """Write a run as ONNX, as merged weights or as a PEFT adapter."""
    from wara.export import export as export_run

    path = export_run(run, kind, out, backbone=backbone)
    typer.echo(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)")
    if kind == "onnx":
        typer.echo(f"How to prepare images for it and read its answers: {path}.json; the file itself holds it too.")


def main() -> None:
    """Run the command line; an `InputError` becomes one sentence on stderr and exit status 2."""
    try:
        app()
    except InputError as error:
        typer.echo(f"Error: {error.sentence()}", err=True)
        sys.exit(2)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        typer.echo(f"Error: {reason} (seen: {error.filename or 'a file'}). Check the path and its rights.", err=True)
        sys.exit(2)


def _require_adapter(model: Any, run: Path) -> None:
    from wara.tuner import adapted_layers

    if not adapted_layers(model):
        raise InputError(
            "This run has no adapter to analyse", seen=run.name,
            remedy="Analyse a run of the method wara, tiny-wara or lora.", code="analysis-no-adapter",
        )  # fmt: skip


if __name__ == "__main__":
    main()
