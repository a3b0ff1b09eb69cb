from __future__ import annotations

from dataclasses import replace

import pytest

from wara.data import Catalogue, Item, PassedOver, ingest, open_source, read_catalogue, require_trainable
from wara.errors import InputError


def _refusal(catalogue: Catalogue) -> InputError:
    with pytest.raises(InputError) as caught:
        require_trainable(catalogue)
    return caught.value


def _items(**counts: int) -> list[Item]:
    return [Item(f"{name}/{number}.png", name) for name, count in counts.items() for number in range(count)]


def test_three_images_of_two_classes_can_be_trained_on(catalogue):
    require_trainable(catalogue(_items(a=3, b=3)))


def test_nothing_readable_tells_the_most_frequent_reason():
    passed_over = (PassedOver("a", "The file is empty"), PassedOver("b", "cut"), PassedOver("c", "cut"))
    error = _refusal(Catalogue((), ("a",), passed_over, "class-folders", ""))
    assert (error.code, error.seen) == ("nothing-readable", "3 files passed over, 2 of them: cut")


def test_one_class_is_named(catalogue):
    error = _refusal(catalogue(_items(pneumonia=5)))
    assert (error.what, error.seen, error.code) == ("The data holds only one class", "pneumonia", "one-class")


def test_one_folder_beside_a_table_is_told_of_the_table(folder):
    with open_source(folder({"images/1.png": None, "images/2.png": None, "labels_2017.csv": "a,b\n"})) as source:
        assert "labels_2017.csv" in _refusal(read_catalogue(source)).remedy


def test_one_image_in_a_class_is_named(catalogue):
    error = _refusal(catalogue(_items(a=9, rare=1)))
    assert (error.what, error.seen, error.code) == ("A class has only one image", "rare", "class-too-small")


def test_two_images_are_fewer_than_the_three_sides(catalogue):
    error = _refusal(catalogue(_items(a=9, rare=2)))
    assert error.code == "class-too-small"
    assert "at least 3 are needed, one each for training, choosing the best moment and the final test" in error.what


def test_fewer_patients_than_sides_are_told_from_few_images(catalogue):
    items = [replace(item, patient=f"p{number % 2}") for number, item in enumerate(_items(a=20, b=20))]
    error = _refusal(catalogue(items))
    assert error.code == "too-few-patients"
    assert (error.what.split(";")[0], error.seen) == ("A class has images of only 2 patients", "a: 20 images")
    same = [replace(item, patient="anonymous") for item in items]
    assert "only 1 patient;" in _refusal(catalogue(same)).what
    assert "placeholders" in _refusal(catalogue(same)).remedy


def test_a_given_split_needs_no_patients_and_only_training_of_every_class(catalogue):
    sides = ["train", "val", "test"]
    items = [replace(item, split=sides[number % 3], patient="p") for number, item in enumerate(_items(a=6, b=6))]
    require_trainable(catalogue(items))
    error = _refusal(catalogue([item for item in items if (item.label, item.split) != ("b", "train")]))
    assert (error.seen, error.code) == ("b", "class-not-in-train")


def test_a_side_to_be_carved_needs_two_in_training(catalogue):
    items = [replace(item, split="train" if number % 4 else "test") for number, item in enumerate(_items(a=8, b=8))]
    require_trainable(catalogue(items))
    few = [item for item in items if item.label == "a" or item.split == "test"]
    few.append(Item("b/one.png", "b", None, "train"))
    error = _refusal(catalogue(few))
    assert error.code == "class-too-small"
    assert error.what.startswith(
        "A class has only 1 image to train on; at least 2 are needed, one each for training and"
    )


def test_a_given_split_without_training_is_refused(catalogue):
    assert _refusal(catalogue([replace(item, split="test") for item in _items(a=3, b=3)])).code == "split-no-train"


def test_a_class_that_lost_all_its_images_is_named(folder, png):
    root = folder(
        {f"{name}/{n}.png": png(n + ord(name)) for name in "ab" for n in range(4)}
        | {"lost/1.png": b"text\n", "lost/2.png": b"text\n", "lost/3.png": b"", "lost/4.png": png(1)[:-30]}
        | {"lost/5.png": b"GIF89a" + bytes(30), "a/9.png": b"text\n"}
    )
    with open_source(root) as source:
        decoded, _ = ingest(source, read_catalogue(source))
    error = _refusal(decoded)
    assert (error.what, error.code) == ("A class has no image that can be read", "class-empty")
    assert error.seen == (
        "lost, 5 files passed over: The file is a text file, not an image (2); The file is empty (1); "
        "The PNG file is cut short (1); other reasons (1)"
    )


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"only/1.png": None, "only/2.png": None}, "one-class"),
        ({"a/1.png": None, "a/2.png": None, "a/3.png": None, "b/1.png": None}, "class-too-small"),
        ({"a/1.png": "text\n", "b/1.png": "text\n"}, "nothing-readable"),
    ],
)
def test_wrong_folders_are_refused_from_the_disk_on(folder, files, code):
    with open_source(folder(files)) as source:
        assert _refusal(ingest(source, read_catalogue(source))[0]).code == code
