"""Draws mammogram-like images that were never of anybody: one ground, and on it a finding of one scale or none.

The ground is a breast between chest wall and skin, seen from the side: dark air, the skin as a thin bright line, fat,
glandular tissue and strands towards the nipple, sometimes the chest muscle in a corner, and the grain of the detector.
Tissue has the spectrum that mammograms have: amplitude falls as frequency to the power -1.5 (Burgess, Jacobson and
Judy, Medical Physics 28, 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CLASSES = ("coarse_mass", "fine_cluster", "normal_texture")
# Sizes in pixels are meant for an image of this height and width.
_REFERENCE = 224

FloatImage = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Breast:
    """Where the tissue lies: depth under the skin as a share of the image, below zero in the air."""

    x: FloatImage
    y: FloatImage
    depth: FloatImage
    nipple: float


def render(label: str, rng: np.random.Generator, size: int) -> FloatImage:
    """Draw one image of a class.

    Args:
        label: one of ``CLASSES``.
        rng: where all its randomness comes from; the same state gives the same ground to every class.
        size: height and width in pixels.

    Returns:
        Brightness in 0..1, shape (size, size). Its mean over the tissue is drawn independently of the class.
    """
    breast = _breast(rng, size)
    thickness = 1 - np.exp(-np.maximum(breast.depth, 0) / 0.05)
    tissue = _tissue(rng, size, breast)
    brightness, gain = rng.uniform(0.36, 0.5), rng.uniform(0.85, 1.15)
    grain = _grain(rng, size)
    skin = 0.16 * np.exp(-(((breast.depth - 0.008) / 0.007) ** 2))
    mirrored = rng.random() < 0.5
    # Drawn last, so that the ground does not depend on it.
    if label == "coarse_mass":
        tissue += _mass(rng, size, breast)
    elif label == "fine_cluster":
        tissue += _cluster(rng, size, breast)
    inside = thickness / thickness.sum()
    tissue = brightness + gain * (tissue - float((inside * tissue).sum()))
    picture = 0.025 + thickness * np.maximum(tissue, 0.05) + skin
    picture += grain * (0.2 + 1.3 * picture)
    return np.clip(picture[:, ::-1] if mirrored else picture, 0.0, 1.0)


def _breast(rng: np.random.Generator, size: int) -> _Breast:
    axis = (np.arange(size, dtype=np.float64) + 0.5) / size
    y, x = axis[:, None], axis[None, :]
    middle, width, height = rng.uniform(0.46, 0.56), rng.uniform(0.86, 0.97), rng.uniform(0.62, 0.74)
    power = rng.uniform(1.9, 2.3)
    # Sagging: the lower half is fuller than the upper one.
    reach = height * np.where(y > middle, rng.uniform(0.82, 0.95), 1.0)
    distance = ((x / width) ** power + (np.abs(y - middle) / reach) ** power) ** (1 / power)
    return _Breast(x, y, (1 - distance) * 0.8 * width, float(middle))


def _tissue(rng: np.random.Generator, size: int, breast: _Breast) -> FloatImage:
    """Fat, glandular tissue, strands and muscle: brightness around zero."""
    cloud, islands = _textures(rng, size, 1.5)
    strands, others = _textures(rng, size, 1.3)
    across, along = breast.y - breast.nipple, breast.x - rng.uniform(0.3, 0.45)
    # Glands fill a cone behind the nipple, more of it in some than in others.
    cone = 1.6 * np.exp(-((across / rng.uniform(0.24, 0.34)) ** 2) - (along / rng.uniform(0.26, 0.36)) ** 2)
    glands = 1 / (1 + np.exp(-2.2 * (cone - rng.uniform(0.7, 1.1) + 0.6 * islands)))
    # Thin bright lines where a smooth field changes its sign.
    lines = np.exp(-((strands / 0.16) ** 2)) + np.exp(-((others / 0.11) ** 2))
    picture = 0.2 * glands + 0.032 * cloud * (0.5 + glands) + 0.035 * lines * (0.4 + 0.6 * glands)
    if rng.random() < 0.6:
        edge = (0.36 * rng.uniform(0.8, 1.2) - breast.x) - rng.uniform(0.45, 0.7) * breast.y
        picture = picture + 0.17 / (1 + np.exp(-edge * 60)) * (1 + 0.08 * cloud)
    return np.asarray(picture)


def _textures(rng: np.random.Generator, size: int, power: float) -> tuple[FloatImage, FloatImage]:
    """Two independent fields of zero mean and unit spread whose amplitude falls as frequency to minus ``power``."""
    frequency = np.fft.fftfreq(size)
    amplitude = np.maximum(np.hypot(frequency[:, None], frequency[None, :]), 2 / size) ** -power
    noise = rng.standard_normal((2, size, size))
    # Real and imaginary part of one transform are two fields.
    field = np.fft.ifft2(amplitude * (noise[0] + 1j * noise[1]))
    first, second = field.real, field.imag
    return (first - first.mean()) / first.std(), (second - second.mean()) / second.std()


def _grain(rng: np.random.Generator, size: int) -> FloatImage:
    """Noise of the detector, a little blurred by it."""
    noise = rng.standard_normal((size, size))
    noise = noise + 0.5 * (np.roll(noise, 1, axis=0) + np.roll(noise, 1, axis=1))
    return np.asarray(0.018 * noise)


def _place(rng: np.random.Generator, size: int, breast: _Breast) -> tuple[FloatImage, FloatImage]:
    """Distances in pixels, (size, 1) down and (1, size) across, from a centre well inside the tissue."""
    centre = breast.nipple + rng.uniform(-0.17, 0.17), rng.uniform(0.3, 0.52)
    return (breast.y - centre[0]) * size, (breast.x - centre[1]) * size


def _mass(rng: np.random.Generator, size: int, breast: _Breast) -> FloatImage:
    """One wide dense region with a soft, lobed margin, about a third of the image across."""
    down, across = _place(rng, size, breast)
    radius = rng.uniform(0.15, 0.19) * size
    angle = np.arctan2(down, across)
    lobes = 1 + 0.1 * np.sin(3 * angle + rng.uniform(0, 2 * np.pi)) + 0.06 * np.sin(5 * angle + rng.uniform(0, np.pi))
    return np.asarray(rng.uniform(0.26, 0.36) / (1 + np.exp((np.hypot(down, across) / (radius * lobes) - 1) * 7)))


def _cluster(rng: np.random.Generator, size: int, breast: _Breast) -> FloatImage:
    """A group of tiny bright points, each one to three pixels across, as calcifications are."""
    down, across = _place(rng, size, breast)
    scale = max(size / _REFERENCE, 0.5)
    cluster = np.zeros((size, size))
    for offset in rng.normal(0.0, rng.uniform(0.12, 0.16) * size, (int(rng.integers(28, 44)), 2)):
        tall, wide = rng.uniform(0.8, 1.5, 2) * scale
        # A point is separable: two exponentials of one axis each instead of one of the whole image.
        point = np.exp(-((down - offset[0]) ** 2) / (2 * tall**2)) * np.exp(
            -((across - offset[1]) ** 2) / (2 * wide**2)
        )
        cluster = np.maximum(cluster, rng.uniform(0.5, 0.8) * point)
    return cluster
