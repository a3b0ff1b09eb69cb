"""Which picture of a DICOM file is taken: one of its frames or all of them, and the window that it is shown by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wara.errors import InputError

FRAMES = ("first", "middle", "all")
MOST_WINDOWS = 64


@dataclass(frozen=True, slots=True)
class DicomView:
    """How DICOM files are looked at. Files with one frame, and other formats, are the same under every choice.

    Attributes:
        frames: "first", "middle" (the later one of an even number's two) or "all", each frame an image of its own.
        window: number of the window, from 1, where a file offers several ways to show its values: its VOI lookup
            tables first, then its windows, in the order of the file.
    """

    frames: str = "middle"
    window: int = 1

    def validate(self) -> None:
        """Check the values.

        Raises:
            InputError: code "dicom-frames" or "dicom-window".
        """
        if self.frames not in FRAMES:
            raise InputError(
                "This choice of frames is not known",
                seen=str(self.frames)[:60],
                remedy=f"Use one of {', '.join(FRAMES)}.",
                code="dicom-frames",
            )
        window: Any = self.window  # options come from JSON too, where anything can stand
        if not isinstance(window, int) or isinstance(window, bool) or not 1 <= window <= MOST_WINDOWS:
            raise InputError(
                "The number of the window cannot be used",
                seen=str(window)[:60],
                remedy=f"Use a whole number from 1 to {MOST_WINDOWS}; 1 is the first window of each file.",
                code="dicom-window",
            )

    def frame_of(self, count: int) -> int:
        """Return the number, from 1, of the one frame to show of a file with ``count``; for "all" the middle one."""
        return 1 if self.frames == "first" else count // 2 + 1


DEFAULT_VIEW = DicomView()
