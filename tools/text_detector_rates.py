"""How often the text detector is right: on drawn pictures with and without rendered text, and on a folder.

    python -m tools.text_detector_rates [--images 200] [--folder FOLDER [--every 10]]

A folder's pictures have no truth beside them: what is printed is how many are flagged and the first of them.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wara.data.sources import open_source
from wara.demo import files as demo_files
from wara.errors import UnreadableImage
from wara.imaging import read_image
from wara.imaging.formats import is_image_name
from wara.imaging.text_detector import find_text
from wara.imaging.text_look import look_at

FONTS = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVuSans*.ttf"))
LINES = ("DOE JANE", "Mueller, Anna", "ID 4711-22", "12.03.1951", "St. Anna Hospital", "F 047Y", "2019-06-07 14:22")


def grounds(count: int) -> Iterator[Image.Image]:
    """Yield drawn pictures like X-rays: the demo's tissue on black, enlarged to between 512 and 1,024 pixels."""
    generator = np.random.default_rng(0)
    for _, content in demo_files(count, seed=7, dicom_share=0):
        size = int(generator.integers(512, 1025))
        yield Image.fromarray(read_image(content, "drawn").pixels).resize((size, size), Image.Resampling.BICUBIC)


def write(image: Image.Image, number: int) -> Image.Image:
    """Write a line of text near a border, as machines do: a font, a size, a place and a shade by the number."""
    generator = np.random.default_rng(number)
    written = image.copy()
    font = ImageFont.truetype(str(generator.choice([str(path) for path in FONTS])), int(generator.integers(12, 33)))
    text = str(generator.choice(LINES))
    left, top, right, bottom = font.getbbox(text)
    x = int(generator.integers(4, max(5, image.width - int(right) - 4)))
    y = int(generator.choice((4, image.height - int(bottom) - 6)))
    draw = ImageDraw.Draw(written)
    if generator.random() < 0.5:  # on a bar of its own, as screenshots have
        draw.rectangle((x + left - 4, y + top - 3, x + right + 4, y + bottom + 3), fill=(0, 0, 0))
    shade = int(generator.integers(170, 256))
    draw.text((x, y), text, font=font, fill=(shade, shade, shade if generator.random() < 0.7 else 0))
    return written


def flagged(image: Image.Image, quality: int | None) -> bool:
    """Whether the detector flags a picture, as it is or after a JPEG of this quality."""
    if quality is None:
        return bool(find_text(np.asarray(image)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return bool(look_at(buffer.getvalue(), "drawn")[1])


def drawn(count: int) -> None:
    """Print the rates on drawn pictures."""
    print(f"{'drawn pictures':24}{'pictures':>10}{'with text flagged':>20}{'without text flagged':>22}")
    pictures = list(grounds(count))
    for quality in (None, 75):
        found = sum(flagged(write(image, number), quality) for number, image in enumerate(pictures))
        false = sum(flagged(image, quality) for image in pictures)
        name = "as drawn" if quality is None else f"JPEG of quality {quality}"
        print(f"{name:24}{len(pictures):>10}{found:>14} ({found / len(pictures):4.0%}){false:>16} "
              f"({false / len(pictures):4.0%})")  # fmt: skip


def folder(path: Path, every: int) -> None:
    """Print how many pictures of a folder are flagged."""
    names, total = [], 0
    with open_source(path) as source:
        for name in [name for name in source.names() if is_image_name(name)][::every]:
            try:
                _, reason = look_at(source.read(name), name)
            except UnreadableImage:
                continue
            total += 1
            if reason:
                names.append(f"{name} ({reason})")
    print(f"{path.name}: {len(names)} of {total} pictures flagged ({len(names) / max(1, total):.1%})")
    for name in names[:20]:
        print(f"  {name}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--folder", type=Path, action="append", default=[])
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    if options.images:
        drawn(options.images)
    for path in options.folder:
        folder(path, options.every)


if __name__ == "__main__":
    main()
