"""The figures of a run, and the sentences beside them."""

import csv
import io

import numpy as np
import pytest

from wara.analysis.style import to_png
from wara.evaluation import evaluate
from wara.evaluation.figures import draw_confusion, draw_history
from wara.evaluation.reading import read_confusion, read_history

THEMES = ["light", "dark"]


def history(n, best=None):
    best = n - 1 if best is None else best
    return [
        {"epoch": i + 1, "train_loss": 0.7 / (i + 1), "val_loss": 0.8 / (i + 1),
         "val_auroc": 0.9 - 0.05 * abs(i - best) / n,
         "learning_rate": 1e-3, "seconds": 1.0, "best": i <= best}
        for i in range(n)
    ]  # fmt: skip


def result(k, n=200, names=None, groups=None):
    rng = np.random.default_rng(0)
    targets = np.arange(n) % k
    probabilities = np.exp(rng.normal(size=(n, k)) + 2 * np.eye(k)[targets])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = names or [f"class {c}" for c in range(k)]
    return evaluate(probabilities, targets, names, groups, replicates=50), names


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("rows", [history(10), history(1), history(60, best=3), []], ids=len)
def test_history_figure_is_readable(rows, theme, assert_readable):
    assert_readable(draw_history(rows, theme))


def test_history_figure_draws_each_column_and_marks_what_was_kept(words):
    rows = history(6, best=3)
    losses, areas = draw_history(rows).axes[:2]
    drawn = [list(line.get_ydata()) for axes in (losses, areas) for line in axes.lines]
    for column in ("train_loss", "val_loss", "val_auroc"):
        assert [row[column] for row in rows] in drawn
    assert "the model of pass 4 was kept (validation AUROC 0.900)" in "\n".join(words(draw_history(rows)))


def test_history_can_be_drawn_from_the_text_of_history_csv():
    rows = history(4)
    rows[0]["val_auroc"] = None
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    read = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert to_png(draw_history(read), 1) == to_png(draw_history(rows), 1)


def test_history_without_any_auroc_says_so(words, assert_readable):
    rows = [row | {"val_auroc": None, "best": False} for row in history(3)]
    figure = draw_history(rows)
    assert "not defined here" in words(figure)
    assert_readable(figure)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("k", [2, 3, 7, 20, 30])
def test_confusion_figure_is_readable(k, theme, assert_readable):
    metrics, names = result(k, 600)
    assert_readable(draw_confusion(metrics, names, theme))


@pytest.mark.parametrize(
    "names",
    [["a", "b"], ["a very long name of a diagnosis indeed", "$x$"], ["肺炎", "正常"]],
    ids=["short", "long", "cjk"],
)
def test_confusion_figure_takes_any_names(names, assert_readable):
    metrics, _ = result(2, names=names)
    assert_readable(draw_confusion(metrics, names))


def test_confusion_figure_shows_counts_shares_and_sensitivities(words):
    targets = [0] * 8 + [1] * 4
    probabilities = [[0.9, 0.1]] * 6 + [[0.2, 0.8]] * 3 + [[0.7, 0.3]] + [[0.2, 0.8]] * 2
    metrics = evaluate(probabilities, targets, ["healthy", "ill"], [f"p{i // 2}" for i in range(12)], replicates=100)
    found = words(draw_confusion(metrics, ["healthy", "ill"]))
    assert {"6", "2", "1", "3", "75 %", "25 %", "healthy", "ill"} <= set(found)
    low, high = metrics["sensitivity"]["ill"]["low"], metrics["sensitivity"]["ill"]["high"]
    assert f"0.75  [{low:.2f}, {high:.2f}]" in found
    assert any("12 images of 6 patients" in text for text in found)


def test_confusion_figure_of_a_class_without_images(words, assert_readable):
    metrics = evaluate([[0.9, 0.1]] * 4, [0] * 4, ["healthy", "ill"], replicates=10)
    figure = draw_confusion(metrics, ["healthy", "ill"])
    assert "no images" in words(figure)
    assert_readable(figure)


def test_confusion_matrix_of_another_size_is_refused():
    metrics, _ = result(3)
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 classes"):
        draw_confusion(metrics, ["a", "b"])


def test_reading_a_history_says_which_pass_was_kept_and_whether_more_would_help():
    assert "pass 4 was kept, with a validation AUROC of 0.900; the 2 passes after it" in read_history(
        history(6, best=3)
    )
    assert "a longer training may help" in read_history(history(4))
    assert "nothing to see yet" in read_history([])


def test_reading_a_confusion_matrix_names_the_hardest_class_and_the_most_frequent_mistake():
    targets = [0] * 8 + [1] * 4
    probabilities = [[0.9, 0.1]] * 7 + [[0.2, 0.8]] + [[0.7, 0.3]] * 2 + [[0.2, 0.8]] * 2
    metrics = evaluate(probabilities, targets, ["healthy", "ill"], replicates=100)
    text = read_confusion(metrics, ["healthy", "ill"])
    assert "Hardest is ill: 50 %" in text
    assert "ill taken for healthy, 2 of 4" in text
    perfect = evaluate(np.eye(2)[targets], targets, ["healthy", "ill"], replicates=10)
    assert "No image was taken for another class" in read_confusion(perfect, ["healthy", "ill"])
    empty = evaluate(np.zeros((0, 2)), [], ["healthy", "ill"])
    assert "no image to test on" in read_confusion(empty, ["healthy", "ill"])
