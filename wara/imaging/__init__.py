"""Bytes to RGB pixels: PNG, JPEG, TIFF, WebP, BMP and DICOM, and the fit to a backbone's square."""

from wara.imaging.fit import FITS, fit_square
from wara.imaging.formats import IMAGE_SUFFIXES, is_image_name, is_raster_name
from wara.imaging.image import DecodedImage
from wara.imaging.read import check_image, check_images, read_image, read_square, read_squares
from wara.imaging.view import DicomView

__all__ = [
    "FITS",
    "IMAGE_SUFFIXES",
    "DecodedImage",
    "DicomView",
    "check_image",
    "check_images",
    "fit_square",
    "is_image_name",
    "is_raster_name",
    "read_image",
    "read_square",
    "read_squares",
]
