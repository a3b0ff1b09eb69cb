"""What fine-tuning did: energy by scale of detail, singular spectra, the figures of both and how to read them."""
