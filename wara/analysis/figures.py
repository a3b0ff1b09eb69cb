"""The figures of the analysis, drawn from the stored JSON alone, so that any theme can be had later."""

from wara.analysis.class_figure import class_ratios, draw_classes
from wara.analysis.energy_figure import draw_subband_energy
from wara.analysis.spectrum_figure import draw_singular_spectrum

__all__ = ["class_ratios", "draw_classes", "draw_singular_spectrum", "draw_subband_energy"]
