"""Drawn images of many kinds of shapes, edges and textures, for distilling a backbone that has to see anything.

Each kind has something of what pictures from nature and medicine have: clouds whose spectrum falls like a power of the
frequency, objects that hide each other (dead leaves), cells, vessels, stripes, speckle, and fractals of iterated maps.
Nothing in them was ever photographed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]


def draw(seed: int, size: int) -> Picture:
    """Draw one image.

    Args:
        seed: decides everything; the same seed gives the same image.
        size: height and width in pixels.

    Returns:
        RGB, shape (size, size, 3).
    """
    rng = np.random.default_rng([20_261, seed])
    kinds: tuple[Callable[[np.random.Generator, int], Field], ...] = (_leaves, _leaves, _cells, _vessels, _stripes,
                                                                      _cloud_picture, _fractal, _tissue)  # fmt: skip
    picture = kinds[int(rng.integers(len(kinds)))](rng, size)
    if rng.random() < 0.25:  # one kind inside the outline of another
        other = kinds[int(rng.integers(len(kinds)))](rng, size)
        edge = _cloud(rng, size, rng.uniform(1.5, 2.5))
        inside = edge > rng.uniform(-0.5, 0.8)
        picture = np.where(inside[:, :, None], other, picture)
    if rng.random() < 0.3:
        picture = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    if rng.random() < 0.25:
        speckle = rng.gamma(4.0, 0.25, (size, size, 1)).astype(np.float32)
        picture = picture * (1 + rng.uniform(0.2, 1.0) * (speckle - 1))
    if rng.random() < 0.2:
        picture = picture * _vignette(rng, size)[:, :, None]
    return np.clip(picture * 255, 0, 255).astype(np.uint8)


def _vignette(rng: np.random.Generator, size: int) -> Field:
    """A bright round field on a dark ground, as scopes and dermatoscopes give."""
    rows, columns = (np.mgrid[:size, :size] / size - 0.5).astype(np.float32)
    distance = np.hypot(rows - rng.normal(0, 0.05), columns - rng.normal(0, 0.05))
    edge = np.clip((distance - rng.uniform(0.35, 0.6)) * rng.uniform(20, 200), -50, 50)
    return np.asarray(1 / (1 + np.exp(edge)), dtype=np.float32)


def _cloud(rng: np.random.Generator, size: int, power: float) -> Field:
    """Noise whose amplitude falls as frequency to the minus `power`; zero mean, unit spread."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    amplitude = np.maximum(np.hypot(fy * rng.uniform(0.6, 1.6), fx), 1 / size) ** -power
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * amplitude, s=(size, size))
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-9), dtype=np.float32)


def _colours(rng: np.random.Generator, count: int) -> Field:
    """Colours that go together: around a few, as things under one light have them."""
    anchors = rng.random((3, 3)) * rng.uniform(0.4, 1.0)
    spread = rng.uniform(0.03, 0.25)
    chosen = anchors[rng.integers(3, size=count)] + rng.normal(0, spread, (count, 3))
    return np.clip(chosen, 0, 1).astype(np.float32)


def _through(rng: np.random.Generator, field: Field, count: int = 5) -> Field:
    """Map values of a field onto a line of colours."""
    colours = _colours(rng, count)
    place = np.clip((field * rng.uniform(0.15, 0.35) + 0.5) * (count - 1), 0, count - 1.001)
    low = place.astype(np.int64)
    part = (place - low)[:, :, None].astype(np.float32)
    return np.asarray(colours[low] * (1 - part) + colours[low + 1] * part)


def _cloud_picture(rng: np.random.Generator, size: int) -> Field:
    field = _cloud(rng, size, rng.uniform(0.8, 2.2))
    if rng.random() < 0.5:  # bent by another cloud
        field = _bent(rng, field)
    return _through(rng, field)


def _bent(rng: np.random.Generator, field: Field) -> Field:
    size = len(field)
    reach = rng.uniform(4, 30)
    rows, columns = np.mgrid[:size, :size]
    rows = (rows + reach * _cloud(rng, size, 2.0)).astype(np.int64) % size
    columns = (columns + reach * _cloud(rng, size, 2.0)).astype(np.int64) % size
    return np.asarray(field[rows, columns])


def _leaves(rng: np.random.Generator, size: int) -> Field:
    """Objects with textures of their own that hide each other; many small ones and few large."""
    count = int(rng.integers(15, 250))
    owner = Image.new("I", (size, size), 0)
    pen = ImageDraw.Draw(owner)
    shape = int(rng.integers(4))
    radii = np.clip(size * 0.02 * (1 - rng.random(count)) ** -rng.uniform(0.4, 0.9), 2, size * 0.4)
    for index, radius in enumerate(np.sort(radii)[::-1], start=1):
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        if shape == 0:
            stretch = rng.uniform(0.4, 1.0)
            pen.ellipse((x - radius, y - radius * stretch, x + radius, y + radius * stretch), fill=index)
        else:
            corners = int(rng.integers(3, 12)) if shape < 3 else 40
            angles = np.sort(rng.uniform(0, 2 * np.pi, corners)) if shape < 3 else np.linspace(0, 2 * np.pi, corners)
            wave = 1 + 0.3 * np.sin(angles * rng.integers(2, 6) + rng.uniform(0, 6)) if shape == 3 else 1.0
            reach = radius * wave * (rng.uniform(0.6, 1.0, corners) if shape == 2 else 1.0)
            points = [
                (float(a), float(b))
                for a, b in zip(x + reach * np.cos(angles), y + reach * np.sin(angles), strict=True)
            ]
            pen.polygon(points, fill=index)
    owners = np.asarray(owner)
    textures = np.stack([_cloud(rng, size, power) for power in rng.uniform(0.0, 2.0, 3)])
    kind = rng.integers(3, size=count + 1)
    depth = (rng.random(count + 1) * rng.uniform(0.02, 0.2)).astype(np.float32)
    colours = _colours(rng, count + 1)
    texture = np.take_along_axis(textures, kind[owners][None], axis=0)[0]
    light = _cloud(rng, size, 2.5) * rng.uniform(0, 0.15)
    return np.asarray(colours[owners] + (texture * depth[owners] + light)[:, :, None])


def _cells(rng: np.random.Generator, size: int) -> Field:
    """Round cells with a nucleus on a ground, or the meshes of a net."""
    count = int(rng.integers(8, 90))
    centres = rng.uniform(0, size, (count, 2)).astype(np.float32)
    step = 2
    axis = np.arange(0, size, step, dtype=np.float32)
    dy = axis[:, None, None] - centres[:, 0]
    dx = axis[None, :, None] - centres[:, 1]
    distance = np.sqrt(dy**2 + dx**2)
    nearest = np.partition(distance, 1, axis=2)[:, :, :2]
    first, second = (np.kron(nearest[:, :, i], np.ones((step, step), np.float32))[:size, :size] for i in (0, 1))
    first = first + _cloud(rng, size, 2.0) * rng.uniform(0, 3)
    ground, body, core = _colours(rng, 3)
    mean = size / np.sqrt(count)
    if rng.random() < 0.5:
        wall = np.exp(-(((second - first) / (0.04 * mean + rng.uniform(0, 3))) ** 2))[:, :, None]
        picture = ground * (1 - wall) + body * wall
    else:
        inside = 1 / (1 + np.exp((first - rng.uniform(0.25, 0.5) * mean) * rng.uniform(0.3, 1.5)))[:, :, None]
        nucleus = 1 / (1 + np.exp((first - rng.uniform(0.08, 0.2) * mean) * rng.uniform(0.5, 2)))[:, :, None]
        picture = (ground * (1 - inside) + body * inside) * (1 - nucleus) + core * nucleus
    return np.asarray(picture + (_cloud(rng, size, rng.uniform(0.3, 1.5)) * rng.uniform(0.01, 0.1))[:, :, None])


def _vessels(rng: np.random.Generator, size: int) -> Field:
    """Branching bent lines that grow thinner, bright or dark on a cloud."""
    canvas = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(canvas)
    start = rng.uniform(0, size, 2)
    waiting = [
        (*start, rng.uniform(0, 2 * np.pi), rng.uniform(2, 9)) for _ in range(int(rng.integers(2, 9)))
    ]  # row, column, direction, width
    drawn = 0
    while waiting and drawn < 400:
        y, x, angle, width = waiting.pop()
        for _ in range(int(rng.integers(5, 25))):
            angle += rng.normal(0, 0.25)
            to_y, to_x = y + 6 * np.sin(angle), x + 6 * np.cos(angle)
            pen.line((float(x), float(y), float(to_x), float(to_y)), fill=255, width=max(1, round(width)))
            y, x, drawn = to_y, to_x, drawn + 1
        if width > 1 and 0 <= y < size and 0 <= x < size:
            waiting += [(y, x, angle + turn, width * 0.72) for turn in (rng.uniform(0.2, 0.8), -rng.uniform(0.2, 0.8))]
    lines = np.asarray(canvas, dtype=np.float32)[:, :, None] / 255
    strength = rng.uniform(0.3, 1.0)
    return np.asarray(_cloud_picture(rng, size) * (1 - strength * lines) + _colours(rng, 1)[0] * strength * lines)


def _stripes(rng: np.random.Generator, size: int) -> Field:
    """Waves of one direction, or rings, bent and crossed."""
    rows, columns = (np.mgrid[:size, :size] / size).astype(np.float32)
    phase = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        frequency, angle = np.exp(rng.uniform(np.log(2), np.log(60))), rng.uniform(0, np.pi)
        if rng.random() < 0.3:
            y, x = rng.random(2)
            place = np.hypot(rows - y, columns - x)
        else:
            place = rows * np.sin(angle) + columns * np.cos(angle)
        wave = np.sin(2 * np.pi * frequency * place + rng.uniform(0, 4) * _cloud(rng, size, 2.2))
        phase += np.sign(wave) if rng.random() < 0.25 else wave
    return _through(rng, phase * 1.5)


def _fractal(rng: np.random.Generator, size: int) -> Field:
    """The attractor of a few affine maps, as density."""
    count, walkers, steps = int(rng.integers(2, 6)), 1500, 50
    turn = rng.uniform(0, 2 * np.pi, count)
    shrink = rng.uniform(0.35, 0.8, (count, 2))
    maps = np.stack([np.stack([np.cos(turn), -np.sin(turn)], 1), np.stack([np.sin(turn), np.cos(turn)], 1)], 1)
    maps = maps * shrink[:, None, :]
    shifts = rng.uniform(-1, 1, (count, 2))
    points, seen = np.zeros((walkers, 2)), []
    for step in range(steps):
        chosen = rng.integers(count, size=walkers)
        points = np.einsum("wij,wj->wi", maps[chosen], points) + shifts[chosen]
        if step > 8:
            seen.append(points)
    cloud = np.concatenate(seen)
    low, high = np.quantile(cloud, [0.01, 0.99], axis=0)
    density, _, _ = np.histogram2d(
        cloud[:, 0], cloud[:, 1], bins=size, range=[(low[i], high[i] + 1e-6) for i in (0, 1)]
    )
    field = np.log1p(density).astype(np.float32)
    field = field / (field.max() + 1e-9)
    return np.asarray(
        _colours(rng, 1)[0] * field[:, :, None] * 1.5 + _cloud_picture(rng, size) * (1 - field[:, :, None])
    )


def _tissue(rng: np.random.Generator, size: int) -> Field:
    """Soft overlapping bodies of one colour with bright rims, as projections and slices show them."""
    rows, columns = (np.mgrid[:size, :size] / size - 0.5).astype(np.float32)
    rough = _cloud(rng, size, 2.0)
    picture = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(3, 14))):
        y, x = rng.uniform(-0.45, 0.45, 2)
        a, b, angle = *rng.uniform(0.04, 0.5, 2), rng.uniform(0, np.pi)
        u = (rows - y) * np.cos(angle) + (columns - x) * np.sin(angle)
        v = (columns - x) * np.cos(angle) - (rows - y) * np.sin(angle)
        level = np.sqrt((u / a) ** 2 + (v / b) ** 2) + rough * rng.uniform(0, 0.15)
        body = 1 / (1 + np.exp(np.clip((level - 1) * rng.uniform(8, 60), -50, 50)))
        rim = np.exp(-(((level - 1) / rng.uniform(0.03, 0.2)) ** 2))
        picture += rng.uniform(-0.4, 0.6) * body + rng.uniform(0, 0.4) * rim
    picture += _cloud(rng, size, rng.uniform(0.0, 1.5)) * rng.uniform(0.02, 0.15)
    low, high = np.quantile(picture, [0.02, 0.98])
    grey = (picture - low) / (high - low + 1e-6)
    tint = np.asarray([1.0, *rng.uniform(0.6, 1.0, 2)] if rng.random() < 0.4 else [1.0, 1.0, 1.0], np.float32)
    return np.asarray(grey[:, :, None] * tint, dtype=np.float32)
