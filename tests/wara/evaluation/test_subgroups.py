"""Figures of each subgroup."""

import json

import numpy as np
import pytest

from wara.evaluation import evaluate
from wara.evaluation.subgroups import age_band, subgroup_table


def images(n=400, worse=1.0):
    """Two-class images; the model knows less of those of women by ``worse``."""
    rng = np.random.default_rng(0)
    targets, sex = np.arange(n) % 2, np.array(["F", "M"])[(np.arange(n) // 2) % 2]
    signal = np.where(sex == "F", 2.5 - worse, 2.5)
    second = 1 / (1 + np.exp(-(signal * (targets - 0.5) + 0.7 * rng.normal(size=n))))
    return np.stack([1 - second, second], axis=1), targets, sex.tolist()


def test_each_row_is_the_evaluation_of_its_images():
    rows, targets, sex = images()
    groups = [f"p{i // 4}" for i in range(400)]
    labels = (rows[:, 1] > 0.3).astype(int)
    table = subgroup_table(rows, targets, ["no", "yes"], {"sex": sex}, groups, labels=labels, replicates=100)
    inside = np.array(sex) == "F"
    expected = evaluate(
        rows[inside], targets[inside], ["no", "yes"], [g for g, held in zip(groups, inside, strict=True) if held],
        replicates=100, labels=labels[inside],
    )  # fmt: skip
    women = table["sex"]["rows"][0]
    assert (women["value"], women["n_images"], women["n_groups"]) == ("F", 200, 100)
    for key in ("auroc", "balanced_accuracy", "sensitivity", "specificity"):
        assert women[key] == expected[key]
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_a_difference_is_called_one_only_where_intervals_part():
    rows, targets, sex = images(worse=2.3)
    assert "worse for F here" in subgroup_table(rows, targets, ["no", "yes"], {"sex": sex})["sex"]["reading"]
    rows, targets, sex = images(worse=0.0)
    assert "show no difference" in subgroup_table(rows, targets, ["no", "yes"], {"sex": sex})["sex"]["reading"]


def test_unknown_values_are_counted_and_a_trait_nobody_has_is_left_out():
    rows, targets, sex = images(40)
    table = subgroup_table(
        rows, targets, ["no", "yes"], {"sex": [None, "", *sex[2:]], "age": [None] * 40}, replicates=10
    )
    assert table["sex"]["unknown"] == 2 and "age" not in table
    assert table["sex"]["rows"][0]["warnings"]


def test_a_trait_of_very_many_values_is_no_subgroup():
    rows, targets, _ = images(40)
    found = subgroup_table(rows, targets, ["no", "yes"], {"site": [str(i) for i in range(40)]})["site"]
    assert found["rows"] == [] and "40 values of site, too many" in found["reading"]


def test_one_class_alone_in_a_subgroup_has_no_auroc_and_says_so():
    rows, targets, _ = images(40)
    table = subgroup_table(rows, targets, ["no", "yes"], {"site": [f"s{t}" for t in targets]}, replicates=10)["site"]
    assert all(row["auroc"]["value"] is None for row in table["rows"]) and "cannot be compared" in table["reading"]


def test_a_trait_of_another_length_is_refused():
    rows, targets, _ = images(40)
    with pytest.raises(ValueError, match="sex holds 1 values for 40 images"):
        subgroup_table(rows, targets, ["no", "yes"], {"sex": ["F"]})


def test_ages_fall_into_bands():
    assert [age_band(age) for age in (None, 0, 17.9, 18, 39, 40, 64.5, 65, 99)] == [
        None, "under 18 years", "under 18 years", "18 to 39 years", "18 to 39 years", "40 to 64 years",
        "40 to 64 years", "65 years and over", "65 years and over",
    ]  # fmt: skip
