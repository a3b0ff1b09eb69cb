"""Text in the picture on the command line: told by ``check``, answered by ``--fix text=accept``."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from tests.wara.support import draw_folder
from wara.cli import app

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def test_check_tells_of_images_with_text_and_keeps_that_somebody_has_looked(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "images", 10)
    image = Image.fromarray(np.full((160, 240), 40, np.uint8))
    ImageDraw.Draw(image).text((6, 6), "DOE JANE", font=ImageFont.truetype(str(FONT), 16), fill=240)
    image.save(folder / "left" / "named.png")
    decisions = tmp_path / "decisions.json"

    first = CliRunner().invoke(app, ["check", str(folder)], env={"COLUMNS": "200"})
    assert first.exit_code == 0, first.output
    assert "Warning (text): 1 image in which text may stand, perhaps a name." in first.output
    assert "something like a line of text is seen: left/named.png" in first.output
    assert "--fix text=accept" in first.output and "--fix text=drop" in first.output

    options = ["check", str(folder), "--fix", "text=accept", "--decisions", str(decisions)]
    done = CliRunner().invoke(app, options, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "(text)" not in done.output and "Decided: text=accept, 1 image" in done.output
    [decision] = json.loads(decisions.read_text())
    assert (decision["fix"], decision["files"]) == ("accept", {"left/named.png": None})
