"""Every file that pydicom bundles, and what becomes of it here: shown as what, or passed over for which reason.

Paths are relative to the folder ``pydicom/data``. A file of the installed package in neither table fails a test.
"""

from __future__ import annotations


def _names(listed: str) -> list[str]:
    return listed.split()


# Rows, columns, frames, photometric interpretation, bits stored, spacing in mm: and the files that are shown so.
SHOWN: dict[tuple[int, int, int, str, int, float | None], list[str]] = {
    (32, 32, 1, "MONOCHROME2", 8, None): _names("""
        charset_files/chrArab.dcm charset_files/chrFren.dcm charset_files/chrFrenMulti.dcm charset_files/chrGerm.dcm
        charset_files/chrGreek.dcm charset_files/chrH31.dcm charset_files/chrH32.dcm charset_files/chrHbrw.dcm
        charset_files/chrI2.dcm charset_files/chrRuss.dcm charset_files/chrX1.dcm charset_files/chrX2.dcm
    """),
    (512, 512, 1, "MONOCHROME2", 14, 0.4785): _names("""
        test_files/693_J2KI.dcm
    """),
    (128, 128, 1, "MONOCHROME2", 16, 0.6615): _names("""
        test_files/CT_small.dcm
    """),
    (60, 80, 1, "RGB", 8, None): _names("""
        test_files/ExplVR_BigEnd.dcm
    """),
    (400, 400, 1, "YBR_RCT", 8, None): _names("""
        test_files/GDCMJ2K_TextGBR.dcm
    """),
    (512, 512, 1, "MONOCHROME2", 13, 0.431): _names("""
        test_files/J2K_pixelrep_mismatch.dcm
    """),
    (1024, 256, 1, "MONOCHROME2", 16, 2.26): _names("""
        test_files/JPEG2000.dcm
    """),
    (45, 10, 1, "MONOCHROME2", 8, None): _names("""
        test_files/JPEGLSNearLossless_08.dcm
    """),
    (50, 10, 1, "MONOCHROME2", 16, None): _names("""
        test_files/JPEGLSNearLossless_16.dcm
    """),
    (64, 64, 1, "MONOCHROME2", 16, 0.3125): _names("""
        test_files/MR_small.dcm test_files/MR_small_RLE.dcm test_files/MR_small_bigendian.dcm
        test_files/MR_small_expb.dcm test_files/MR_small_implicit.dcm test_files/MR_small_jp2klossless.dcm
        test_files/MR_small_jpeg_ls_lossless.dcm test_files/MR_small_padded.dcm
    """),
    (256, 256, 1, "RGB", 8, None): _names("""
        test_files/SC_jpeg_no_color_transform.dcm test_files/SC_jpeg_no_color_transform_2.dcm
        test_files/SC_rgb_jpeg.dcm test_files/SC_rgb_jpeg_app14_dcmd.dcm test_files/SC_rgb_jpeg_dcmd.dcm
    """),
    (100, 100, 1, "RGB", 8, 1.0): _names("""
        test_files/SC_rgb_dcmtk_+eb+cr.dcm test_files/SC_rgb_gdcm_KY.dcm test_files/SC_rgb_jpeg_gdcm.dcm
        test_files/SC_rgb_rle.dcm
    """),
    (100, 100, 1, "YBR_FULL", 8, 1.0): _names("""
        test_files/SC_rgb_dcmtk_+eb+cy+n1.dcm test_files/SC_rgb_dcmtk_+eb+cy+n2.dcm
        test_files/SC_rgb_dcmtk_+eb+cy+s4.dcm test_files/SC_rgb_jpeg_dcmtk.dcm test_files/SC_rgb_jpeg_lossy_gdcm.dcm
    """),
    (100, 100, 1, "YBR_FULL_422", 8, 1.0): _names("""
        test_files/SC_rgb_dcmtk_+eb+cy+np.dcm test_files/SC_rgb_dcmtk_+eb+cy+s2.dcm
        test_files/SC_ybr_full_422_uncompressed.dcm
    """),
    (100, 100, 1, "RGB", 8, None): _names("""
        test_files/SC_rgb_jls_lossy_line.dcm test_files/SC_rgb_jls_lossy_sample.dcm
    """),
    (100, 100, 1, "RGB", 16, 1.0): _names("""
        test_files/SC_rgb_rle_16bit.dcm
    """),
    (100, 100, 2, "RGB", 16, 1.0): _names("""
        test_files/SC_rgb_rle_16bit_2frame.dcm
    """),
    (100, 100, 2, "RGB", 8, 1.0): _names("""
        test_files/SC_rgb_rle_2frame.dcm
    """),
    (100, 100, 1, "RGB", 32, 1.0): _names("""
        test_files/SC_rgb_rle_32bit.dcm
    """),
    (100, 100, 2, "RGB", 32, 1.0): _names("""
        test_files/SC_rgb_rle_32bit_2frame.dcm
    """),
    (3, 3, 1, "RGB", 8, 33.3333): _names("""
        test_files/SC_rgb_small_odd.dcm test_files/SC_rgb_small_odd_big_endian.dcm
    """),
    (3, 3, 1, "YBR_FULL", 8, 33.3333): _names("""
        test_files/SC_rgb_small_odd_jpeg.dcm
    """),
    (16, 16, 1, "MONOCHROME1", 12, 0.1): _names("""
        test_files/dicomdirtests/77654033/CR1/6154 test_files/dicomdirtests/77654033/CR2/6247
        test_files/dicomdirtests/77654033/CR3/6278
    """),
    (16, 16, 1, "MONOCHROME2", 16, 0.4883): _names("""
        test_files/dicomdirtests/77654033/CT2/17106 test_files/dicomdirtests/77654033/CT2/17136
        test_files/dicomdirtests/77654033/CT2/17166 test_files/dicomdirtests/77654033/CT2/17196
        test_files/dicomdirtests/98892001/CT5N/2062 test_files/dicomdirtests/98892001/CT5N/2392
        test_files/dicomdirtests/98892001/CT5N/2693 test_files/dicomdirtests/98892001/CT5N/3023
        test_files/dicomdirtests/98892001/CT5N/3353
    """),
    (16, 16, 1, "MONOCHROME2", 16, 0.5455): _names("""
        test_files/dicomdirtests/98892001/CT2N/6293 test_files/dicomdirtests/98892001/CT2N/6924
    """),
    (16, 16, 1, "MONOCHROME2", 16, 1.3672): _names("""
        test_files/dicomdirtests/98892003/MR1/15820 test_files/dicomdirtests/98892003/MR1/4919
        test_files/dicomdirtests/98892003/MR1/5641 test_files/dicomdirtests/98892003/MR2/15970
    """),
    (16, 16, 1, "MONOCHROME2", 16, 1.1719): _names("""
        test_files/dicomdirtests/98892003/MR2/4950 test_files/dicomdirtests/98892003/MR2/4981
        test_files/dicomdirtests/98892003/MR2/5011 test_files/dicomdirtests/98892003/MR2/6273
        test_files/dicomdirtests/98892003/MR2/6605 test_files/dicomdirtests/98892003/MR2/6935
    """),
    (16, 16, 1, "MONOCHROME2", 16, 0.3906): _names("""
        test_files/dicomdirtests/98892003/MR700/4467 test_files/dicomdirtests/98892003/MR700/4528
        test_files/dicomdirtests/98892003/MR700/4558 test_files/dicomdirtests/98892003/MR700/4588
        test_files/dicomdirtests/98892003/MR700/4618 test_files/dicomdirtests/98892003/MR700/4648
        test_files/dicomdirtests/98892003/MR700/4678
    """),
    (480, 640, 1, "YBR_RCT", 8, None): _names("""
        test_files/examples_jpeg2k.dcm
    """),
    (300, 484, 1, "MONOCHROME2", 12, 0.7231): _names("""
        test_files/examples_overlay.dcm
    """),
    (350, 800, 1, "PALETTE COLOR", 8, None): _names("""
        test_files/examples_palette.dcm
    """),
    (240, 320, 1, "RGB", 8, None): _names("""
        test_files/examples_rgb_color.dcm
    """),
    (240, 320, 30, "YBR_FULL_422", 8, None): _names("""
        test_files/examples_ybr_color.dcm
    """),
    (512, 512, 1, "MONOCHROME2", 8, None): _names("""
        test_files/image_dfl.dcm
    """),
    (512, 512, 1, "MONOCHROME2", 1, 0.8105): _names("""
        test_files/liver_1frame.dcm test_files/liver_expb_1frame.dcm
    """),
    (10, 10, 15, "MONOCHROME2", 32, 10.0): _names("""
        test_files/rtdose.dcm test_files/rtdose_expb.dcm test_files/rtdose_rle.dcm
    """),
    (10, 10, 1, "MONOCHROME2", 32, 10.0): _names("""
        test_files/rtdose_1frame.dcm test_files/rtdose_expb_1frame.dcm test_files/rtdose_rle_1frame.dcm
    """),
}

# Code, and words of the reason: and the files that are passed over for it.
REFUSED: dict[tuple[str, str], list[str]] = {
    ("not-an-image", "The file is a text file, not an image"): _names("""
        charset_files/FileInfo.txt hashes.json palettes/README.md test_files/README.txt
        test_files/dicomdirtests/README.txt test_files/dicomdirtests/TINY_ALPHA/README test_files/rtplan.dump
        test_files/rtstruct.dump test_files/test1.json test_files/test_PN.json urls.json
    """),
    ("no-pixels", "The DICOM file describes an image but holds no pixels"): _names("""
        charset_files/chrJapMulti.dcm charset_files/chrJapMultiExplicitIR6.dcm charset_files/chrKoreanMulti.dcm
        charset_files/chrSQEncoding.dcm charset_files/chrSQEncoding1.dcm test_files/UN_sequence.dcm
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000000
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000001
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000002
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000003
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000004
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000005
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000006
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000007
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000008
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000009
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000A
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000B
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000C
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000D
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000E
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000F
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000G
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000H
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000I
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000J
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000K
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000L
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000M
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000N
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000O
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000P
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000Q
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000R
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000S
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000T
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000U
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000V
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000W
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000X
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000Y
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00000Z
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000010
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000011
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000012
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000013
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000014
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000015
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000016
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000017
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000018
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000019
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00001A
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00001B
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00001C
        test_files/dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM00001D test_files/no_meta_group_length.dcm
        test_files/priv_SQ.dcm
    """),
    ("no-pixels", "The DICOM file holds no image (it is a colour palette)"): _names("""
        palettes/fall.dcm palettes/hotiron.dcm palettes/hotmetalblue.dcm palettes/pet.dcm palettes/pet20step.dcm
        palettes/spring.dcm palettes/summer.dcm palettes/winter.dcm
    """),
    ("no-pixels", "The DICOM file holds no image (it is a radiotherapy plan)"): _names("""
        test_files/ExplVR_BigEndNoMeta.dcm test_files/ExplVR_LitEndNoMeta.dcm test_files/rtplan.dcm
        test_files/rtplan_truncated.dcm
    """),
    (
        "compression",
        "The DICOM image is compressed with 12 bits in a way that is not read (JPEG Extended (Process 2 and 4))",
    ): _names("""
        test_files/JPEG-lossy.dcm test_files/JPGExtended.dcm
    """),
    (
        "damaged",
        "The DICOM image cannot be decompressed (JPEG 2000 Image Compression): it is damaged or of a kind "
        "that is not read",
    ): _names("""
        test_files/JPEG2000-embedded-sequence-delimiter.dcm
    """),
    ("truncated", "The DICOM file is cut short"): _names("""
        test_files/MR_truncated.dcm
    """),
    ("damaged", "The DICOM file is damaged: its header cannot be read"): _names("""
        test_files/badVR.dcm
    """),
    ("not-an-image", "The file is not an image of a kind that is read, or its beginning is damaged"): _names("""
        test_files/crayons.icc
    """),
    ("no-pixels", "The DICOM file holds no image (it is a DICOMDIR, the index of a disc)"): _names("""
        test_files/dicomdirtests/DICOMDIR test_files/dicomdirtests/DICOMDIR-bigEnd
        test_files/dicomdirtests/DICOMDIR-empty.dcm test_files/dicomdirtests/DICOMDIR-implicit
        test_files/dicomdirtests/DICOMDIR-nooffset test_files/dicomdirtests/DICOMDIR-nopatient
        test_files/dicomdirtests/DICOMDIR-reordered test_files/dicomdirtests/TINY_ALPHA/DICOMDIR
    """),
    ("no-pixels", "The DICOM file holds no image"): _names("""
        test_files/empty_charset_LEI.dcm test_files/no_meta.dcm
    """),
    ("damaged", "The DICOM file does not say how large its image is"): _names("""
        test_files/meta_missing_tsyntax.dcm test_files/nested_priv_SQ.dcm
    """),
    ("no-pixels", "The DICOM file holds no image (it is a structured report)"): _names("""
        test_files/reportsi.dcm test_files/reportsi_with_empty_number_tags.dcm test_files/test-SR.dcm
    """),
    ("no-pixels", "The DICOM file holds no image (it is radiotherapy contours)"): _names("""
        test_files/rtstruct.dcm
    """),
    ("no-pixels", "The DICOM file holds no image (it is a waveform)"): _names("""
        test_files/waveform_ecg.dcm
    """),
    ("not-an-image", "The file is a gzip-compressed file, which is not read"): _names("""
        test_files/zipMR.gz
    """),
}
