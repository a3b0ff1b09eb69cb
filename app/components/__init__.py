"""Pieces that several pages share: HTML, numbers in words, charts, forms, events."""
