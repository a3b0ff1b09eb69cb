"""WaRA Studio's library: wavelet low-rank adaptation of vision transformers, and the study around it."""

__version__ = "0.1.0"
