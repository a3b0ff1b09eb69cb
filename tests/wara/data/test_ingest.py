from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wara.data import PixelStore, ingest, open_source, read_catalogue
from wara.data import ingest as ingest_function
from wara.data.patients import patient_code
from wara.errors import InputError
from wara.imaging import fit_square, read_image


@pytest.fixture
def mixed(folder, png) -> Path:
    """Two classes of twelve grey images, and one unreadable file of each kind."""
    files = {f"{name}/{number}.png": png(number + 100 * ord(name)) for name in "ab" for number in range(12)}
    files["a/text.png"] = b"no image\n"
    files["b/cut.png"] = png(7)[:-30]
    files["b/empty.png"] = b""
    return folder(files)


def _ingest(root: Path, store: Path | None = None, **options):
    with open_source(root) as source:
        return ingest(source, read_catalogue(source), store=store, **options)


def test_unreadable_images_are_passed_over_with_their_reason(mixed):
    catalogue, store = _ingest(mixed)
    assert store is None
    assert len(catalogue.items) == 24
    assert {entry.file: entry.reason for entry in catalogue.passed_over} == {
        "a/text.png": "The file is a text file, not an image",
        "b/cut.png": "The PNG file is cut short",
        "b/empty.png": "The file is empty",
    }


@pytest.mark.parametrize("workers", [1, 5])
def test_the_store_holds_every_readable_image_in_the_order_of_the_items(mixed, tmp_path, workers):
    catalogue, store = _ingest(mixed, tmp_path / "p.pix", size=16, workers=workers)
    assert store is not None
    assert len(store) == len(catalogue.items) == 24
    assert store.catalogue == catalogue
    for row, item in enumerate(catalogue.items):
        expected = fit_square(read_image((mixed / item.file).read_bytes(), item.file).pixels, 16)
        np.testing.assert_array_equal(store.image(row), expected)


@pytest.mark.parametrize("colour_at", [None, 0, 3, 70, 99])
def test_one_channel_is_kept_until_the_first_colour_image(folder, png, tmp_path, colour_at):
    root = folder({f"{'ab'[n % 2]}/{n:03}.png": png(n, colour=n == colour_at) for n in range(100)})
    catalogue, store = _ingest(root, tmp_path / "p.pix", size=9)
    assert store is not None
    assert store.channels == (1 if colour_at is None else 3)
    for row, item in enumerate(catalogue.items):
        expected = fit_square(read_image((root / item.file).read_bytes(), item.file).pixels, 9)
        np.testing.assert_array_equal(store.image(row), expected)
    assert [path.name for path in tmp_path.glob("p.pix*")] == ["p.pix"]


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_the_fit_is_the_one_asked_for(folder, png, tmp_path, fit):
    root = folder({"a/1.png": png(1, size=(30, 10)), "b/1.png": png(2, size=(10, 30))})
    _, store = _ingest(root, tmp_path / "p.pix", size=12, fit=fit)
    assert store is not None
    assert store.fit == fit
    expected = fit_square(read_image((root / "a/1.png").read_bytes(), "a").pixels, 12, fit)
    np.testing.assert_array_equal(store.image(0), expected)


def test_a_store_that_matches_is_used_without_decoding(mixed, tmp_path):
    first, _ = _ingest(mixed, tmp_path / "p.pix", size=16)
    written = (tmp_path / "p.pix").stat().st_mtime_ns
    calls = []
    with open_source(mixed) as source:
        source.read = None  # type: ignore[method-assign, assignment]  # reading anything would now fail
        again, store = ingest(
            source, read_catalogue(source), size=16, store=tmp_path / "p.pix", on_progress=lambda *c: calls.append(c)
        )
    assert store is not None
    assert again == first
    assert calls == [(27, 27)]
    assert (tmp_path / "p.pix").stat().st_mtime_ns == written


def test_a_store_of_other_data_size_or_fit_is_written_anew(mixed, tmp_path):
    path = tmp_path / "p.pix"
    _ingest(mixed, path, size=16)
    for options in ({"size": 8}, {"size": 8, "fit": "crop"}):
        _, store = _ingest(mixed, path, **options)
        assert store is not None
        assert (store.size, store.fit) == (8, options.get("fit", "pad"))
    (mixed / "a/0.png").unlink()
    catalogue, store = _ingest(mixed, path, size=8, fit="crop")
    assert store is not None
    assert len(store) == len(catalogue.items) == 23
    path.write_bytes(b"not a store")
    assert len(_ingest(mixed, path, size=8)[1] or ()) == 23


def test_the_fingerprint_stays_and_the_digest_comes(mixed, tmp_path):
    with open_source(mixed) as source:
        listed = read_catalogue(source)
    decoded, _ = _ingest(mixed)
    assert listed.digest is None
    assert decoded.fingerprint == listed.fingerprint
    assert decoded.digest is not None
    shutil.copytree(mixed, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "a" / "0.png", ns=(5, 5))
    copied, _ = _ingest(tmp_path / "copy")
    assert copied.fingerprint != decoded.fingerprint
    assert copied.digest == decoded.digest


def test_progress_counts_every_image_from_the_calling_thread(mixed):
    calls = []
    _ingest(mixed, on_progress=lambda done, total: calls.append((done, total, threading.current_thread())))
    assert [call[:2] for call in calls] == [(done, 27) for done in range(1, 28)]
    assert {call[2] for call in calls} == {threading.current_thread()}


@pytest.mark.parametrize(("together", "held"), [(1, 1 << 20), (4, 1 << 20), (32, 100)])
def test_only_a_few_images_are_read_ahead(folder, png, monkeypatch, together, held):
    module = sys.modules["wara.data.ingest"]  # the package has the function by this name
    monkeypatch.setattr(module, "TOGETHER", together)
    monkeypatch.setattr(module, "TOGETHER_BYTES", held)  # an image has more than 100 bytes
    root = folder({f"{'ab'[n % 2]}/{n:03}.png": png(n) for n in range(60)})
    read, lead = [], []
    with open_source(root) as source:
        whole = source.read
        source.read = lambda name: (read.append(name), whole(name))[1]  # type: ignore[method-assign]
        listed = read_catalogue(source)
        found, _ = ingest(source, listed, workers=2, on_progress=lambda done, _: lead.append(len(read) - done))
    assert len(read) == len(set(read)) == 60
    assert max(lead) <= (2 * 4 + 1) * (together if held > 100 else 1)
    assert [item.file for item in found.items] == [item.file for item in listed.items]


def test_stopping_from_the_progress_call_leaves_nothing_behind(mixed, tmp_path):
    class Cancelled(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise Cancelled

    folder = tmp_path / "cache"
    with pytest.raises(Cancelled):
        _ingest(mixed, folder / "p.pix", size=16, on_progress=stop)
    assert list(folder.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_dicom_patients_are_filled_in_and_the_table_comes_first(folder, tmp_path):
    from pydicom.data import get_testdata_file

    ct, mr = (Path(str(get_testdata_file(name))).read_bytes() for name in ("CT_small.dcm", "MR_small.dcm"))
    root = folder({"a/1": ct, "a/2.dcm": mr, "b/3.dcm": mr})
    items = _ingest(root)[0].items
    assert items[0].patient != items[1].patient == items[2].patient
    assert all(item.patient is not None and len(item.patient) == 12 for item in items)
    (root / "labels.csv").write_text("file,label,patient\na/1,x,P1\na/2.dcm,y,\n")
    first, second = _ingest(root)[0].items
    assert (first.patient, second.patient) == (patient_code("P1"), items[1].patient)


def test_format_and_size_of_each_image_are_kept(folder, png, tmp_path):
    root = folder({"a/1.png": png(1, size=(30, 10)), "b/2": png(2, colour=True, size=(8, 9))})
    catalogue, store = _ingest(root, tmp_path / "p.pix", size=8)
    assert [(item.format, item.width, item.height) for item in catalogue.items] == [("PNG", 30, 10), ("PNG", 8, 9)]
    assert store is not None
    assert PixelStore.open(store.path).catalogue == catalogue
    looked_at = _ingest(root)[0]
    assert [item.text for item in looked_at.items] == ["", ""]  # with a store nobody looks for text
    unlooked = [replace(item, text=None) for item in looked_at.items]
    assert looked_at.with_items(unlooked, looked_at.passed_over) == catalogue


def test_equal_files_have_equal_digests(folder, png):
    root = folder({"a/1.png": png(1), "a/2.png": png(2), "b/3.png": png(1)})
    one, two, three = (item.digest for item in _ingest(root)[0].items)
    assert one == three != two


def test_a_file_that_vanishes_meanwhile_is_passed_over(mixed):
    with open_source(mixed) as source:
        catalogue = read_catalogue(source)
        (mixed / "a/3.png").unlink()
        decoded, _ = ingest(source, catalogue)
    assert "a/3.png" in {entry.file for entry in decoded.passed_over}


def test_nothing_readable_is_an_error_that_says_why_and_writes_nothing(folder, tmp_path):
    root = folder({"a/1.png": b"text\n", "b/2.png": b"text\n"})
    with pytest.raises(InputError, match="2 of them: The file is a text file, not an image") as caught:
        _ingest(root, tmp_path / "cache" / "p.pix", size=8)
    assert caught.value.code == "nothing-readable"
    assert list((tmp_path / "cache").iterdir()) == []
    assert _ingest(root)[0].items == ()


def test_options_that_make_no_sense_are_refused(mixed, tmp_path):
    with pytest.raises(ValueError, match="size"):
        _ingest(mixed, tmp_path / "p.pix")
    with pytest.raises(InputError, match="pad, crop, stretch"):
        _ingest(mixed, tmp_path / "p.pix", size=8, fit="zoom")


def test_a_zip_is_ingested_like_its_folder(mixed, make_zip, tmp_path):
    files = {path.relative_to(mixed).as_posix(): path.read_bytes() for path in mixed.rglob("*.png")}
    plain, zipped = _ingest(mixed)[0], _ingest(make_zip(files))[0]
    assert (plain.items, plain.passed_over, plain.digest) == (zipped.items, zipped.passed_over, zipped.digest)


FULL = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    from wara.data import ingest, open_source, read_catalogue
    from wara.errors import InputError
    root, store, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with open_source(root) as source:
        try:
            ingest(source, read_catalogue(source), size=int(sys.argv[4]), store=store)
        except InputError as error:
            print(error.code, sorted(path.name for path in store.parent.iterdir()), flush=True)
            print(error, file=sys.stderr)
        else:
            print("fits")
    """
)


@pytest.mark.parametrize("limit", [20_000, 60_000, 110_000])
@pytest.mark.parametrize("colour", [False, True])
def test_a_file_that_may_not_grow_leaves_nothing_half_written(folder, png, tmp_path, limit, colour):
    """The system refuses a write for real: while images are written, widened to colour, or the buffer is emptied."""
    root = folder({f"{'ab'[n % 2]}/{n:03}.png": png(n, colour=colour and n > 20) for n in range(40)})
    (tmp_path / "cache").mkdir()
    command = [sys.executable, "-c", FULL, str(root), str(tmp_path / "cache" / "p.pix"), str(limit), "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "disk-full []"
    assert "There is not enough space left on the disk" in done.stderr
    assert "Traceback" not in done.stderr


def _small_disk(tmp_path: Path, megabytes: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk of its own mounted on ``tmp_path/disk``; skip where no disk may be mounted."""
    (tmp_path / "disk").mkdir()
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$0" && shift 0 && exec "$@"'
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here (unshare -rm is not allowed)")
    whole = [unshare, "-rm", "sh", "-c", mount, str(tmp_path / "disk"), *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    if "mount" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    return done


@pytest.mark.parametrize("megabytes", [8, 27])
def test_a_full_disk_is_said_before_or_while_writing_and_nothing_remains(folder, png, tmp_path, megabytes):
    """200 colour images of 224 pixels are 30 MB; 10 MB are asked for at first, as if all were grey, and 16 to spare."""
    root = folder({f"{'ab'[n % 2]}/{n:03}.png": png(n, colour=True) for n in range(200)})
    command = [sys.executable, "-c", FULL, str(root), str(tmp_path / "disk" / "p.pix"), "0", "224"]
    done = _small_disk(tmp_path, megabytes, command)
    assert done.stdout.strip() == "disk-full []"
    assert "MB free" in done.stderr


def test_a_folder_that_may_not_be_written_is_named(mixed, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(InputError, match="may not be written") as caught:
            _ingest(mixed, folder / "p.pix", size=8)
        assert caught.value.code == "not-writable"


def test_a_writer_that_is_killed_leaves_no_store_and_its_draft_goes_with_the_next(mixed, tmp_path):
    code = textwrap.dedent(
        """
        import os, signal, sys
        from wara.data import ingest, open_source, read_catalogue
        def kill(done, total):
            if done == 10:
                os.kill(os.getpid(), signal.SIGKILL)
        with open_source(sys.argv[1]) as source:
            ingest(source, read_catalogue(source), size=16, store=sys.argv[2], on_progress=kill)
        """
    )
    path = tmp_path / "cache" / "p.pix"
    done = subprocess.run([sys.executable, "-c", code, str(mixed), str(path)], check=False)
    assert done.returncode == -9
    drafts = list(path.parent.iterdir())
    assert len(drafts) == 1
    with pytest.raises(InputError):
        PixelStore.open(drafts[0])
    assert len(_ingest(mixed, path, size=16)[1] or ()) == 24
    assert [entry.name for entry in path.parent.iterdir()] == ["p.pix"]


def test_two_writers_of_one_store_do_not_disturb_each_other(mixed, tmp_path):
    path = tmp_path / "cache" / "p.pix"
    together = threading.Barrier(2)
    failures: list[BaseException] = []

    def write() -> None:
        started = False

        def meet(done: int, _: int) -> None:
            nonlocal started
            if not started:
                started = True
                together.wait(30)

        try:
            store = _ingest(mixed, path, size=16, on_progress=meet)[1]
            assert store is not None
            assert len(store) == 24
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [entry.name for entry in path.parent.iterdir()] == ["p.pix"]


def test_ingest_is_one_function_wherever_it_is_imported_from():
    from wara.data.catalogue import ingest as from_catalogue

    assert ingest_function is from_catalogue
