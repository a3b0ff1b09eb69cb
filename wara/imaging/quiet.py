"""Keep decoders from talking: their warnings and logs mean nothing to a reader and may quote a patient's data."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL

# Attributed by the stack level of each warning, so our own modules that call the decoders are named too.
_MODULES = r"PIL|pydicom|pylibjpeg|openjpeg|gdcm|wara\.imaging"
_LOCK = threading.Lock()
_depth = 0


def silence_loggers() -> None:
    """Stop the decoders' log records: without a handler Python prints them, and pydicom's can quote the header.

    Called again once pydicom is imported, for the import sets its logger's level anew.
    """
    for name in ("PIL", "pydicom", "pylibjpeg", "openjpeg"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Ignore the decoders' warnings inside the block, in every thread.

    ``warnings.catch_warnings`` swaps a global list and is not safe when threads overlap; here one entry is added
    by the first block that opens and removed by the last one that closes.
    """
    global _depth
    with _LOCK:
        _depth += 1
        if not _entries():
            warnings.filterwarnings("ignore", module=_MODULES)
    try:
        yield
    finally:
        with _LOCK:
            _depth -= 1
            if _depth == 0:
                # A test runner may have swapped the list meanwhile; then our entry is gone already.
                for entry in _entries():
                    warnings.filters.remove(entry)  # type: ignore[attr-defined]


def _entries() -> list[object]:
    return [entry for entry in warnings.filters if getattr(entry[3], "pattern", None) == _MODULES]


def _silence_libtiff() -> None:
    """Stop libtiff from printing on stderr: its default handlers do, and Pillow leaves them in place.

    The library is found beside Pillow as its wheels lay it, else among the system's. Where it is in neither place
    the only loss is a stray line on stderr for a damaged TIFF.
    """
    package = Path(PIL.__file__).parent
    folders = (package.parent / "pillow.libs", package / ".dylibs")  # Linux, macOS
    bundled = [str(path) for folder in folders if folder.is_dir() for path in sorted(folder.glob("libtiff*"))]
    system = ctypes.util.find_library("tiff") if not bundled else None
    for name in bundled or ([system] if system else []):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            for function in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
                function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
                function(None)


silence_loggers()
_silence_libtiff()
