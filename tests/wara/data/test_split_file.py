from __future__ import annotations

import pytest

from wara.data import Item, make_split, open_source, read_catalogue, read_split_csv, write_split_csv
from wara.errors import InputError


def test_what_is_written_comes_back(catalogue, tmp_path):
    items = [Item('a "b", größe.png', "x,y", "007"), Item("2.png", "1", None), Item("3.png", "1", "p")]
    write_split_csv(tmp_path / "split.csv", catalogue(items), ["train", "val", "test"])
    assert read_split_csv(tmp_path / "split.csv") == [
        Item('a "b", größe.png', "x,y", "007", "train"),
        Item("2.png", "1", None, "val"),
        Item("3.png", "1", "p", "test"),
    ]
    assert (tmp_path / "split.csv").read_text().splitlines()[0] == "file,label,patient,split"
    assert [path.name for path in tmp_path.glob("split*")] == ["split.csv"]


def test_the_file_is_a_table_of_labels_that_repeats_the_split(folder, tmp_path):
    root = folder([f"{name}/{number}.png" for name in "ab" for number in range(8)])
    with open_source(root) as source:
        listed = read_catalogue(source)
        split = make_split(listed, 5)
        write_split_csv(tmp_path / "split.csv", listed, split)
        again = read_catalogue(source, tmp_path / "split.csv")
    assert make_split(again, 99) == split
    assert [item.label for item in again.items] == [item.label for item in listed.items]


@pytest.mark.parametrize("text", ["", "file,label\na,b\n", "file,label,patient,split\na,b,c,tent\n"])
def test_a_file_that_is_no_split_is_refused(tmp_path, text):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_split_csv(tmp_path / "split.csv")
    assert caught.value.code == "split-csv"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError):
        read_split_csv(tmp_path / "none.csv")
