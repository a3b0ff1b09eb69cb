"""Bytes to RGB pixels: PNG, JPEG, TIFF, WebP, BMP and DICOM, and the fit to a backbone's square."""

from wara.imaging.fit import FITS, fit_square
from wara.imaging.formats import IMAGE_SUFFIXES, is_image_name
from wara.imaging.image import DecodedImage
from wara.imaging.read import check_image, read_image, read_square

__all__ = [
    "FITS",
    "IMAGE_SUFFIXES",
    "DecodedImage",
    "check_image",
    "fit_square",
    "is_image_name",
    "read_image",
    "read_square",
]
