"""What a de-identified DICOM file may hold: every attribute that is kept, and which values of it are.

Everything else is left out, whatever it is. Attributes and their terms: DICOM PS3.3 (the section stands beside each
group) and PS3.6; the profile that this is measured against: PS3.15, Annex E. See docs/deidentification.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Terms:
    """A code string, kept where all its values are known terms; one that is ``needed`` and unknown is refused.

    Code strings take any capitals, and names have been seen in them.
    """

    known: frozenset[str]
    needed: bool = False


@dataclass(frozen=True)
class Numbers:
    """Whole or decimal numbers; anything else in their place is refused."""


@dataclass(frozen=True)
class Binary:
    """Bytes or words of a table or of the pixels."""


@dataclass(frozen=True)
class Code:
    """A coded concept: its value and the scheme, where that is a public one; its meaning is free text and goes."""


@dataclass(frozen=True)
class Group:
    """A sequence: of each item these attributes are kept, by the same rules."""

    members: dict[str, Rule] = field(default_factory=dict)


Rule = Terms | Numbers | Binary | Code | Group

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
CODING_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "DCM", "99SDM", "FMA", "RADLEX"})


def _terms(*words: str, needed: bool = False) -> Terms:
    return Terms(frozenset(term for line in words for term in line.split(",")), needed)


def _numbers(keywords: str) -> dict[str, Rule]:
    return {keyword: Numbers() for keyword in keywords.split()}


def _binary(keywords: str) -> dict[str, Rule]:
    return {keyword: Binary() for keyword in keywords.split()}


_TERMS: dict[str, Rule] = {
    # C.7.3.1.1.1: the terms for images, and for what is passed over by name
    "Modality": _terms(
        "AR,BI,BMD,CR,CT,DG,DOC,DX,ECG,EPS,ES,FID,GM,HC,IO,IVOCT,IVUS,KER,KO,LEN,LS,M3D,MG,MR,NM,OAM,OCT,OP,OPM,OPT,"
        "OPTBSV,OPTENF,OPV,OSS,OT,PR,PT,PX,REG,RF,RG,RTDOSE,RTIMAGE,RTPLAN,RTSTRUCT,SEG,SM,SMR,SR,SRF,TG,US,VA,XA,XC"
    ),
    # PS3.16, Annex L: the terms that are common in images of people
    "BodyPartExamined": _terms(
        "ABDOMEN,ABDOMENPELVIS,ADRENAL,ANKLE,AORTA,ARM,AXILLA,BACK,BLADDER,BRAIN,BREAST,BRONCHUS,BUTTOCK,CALCANEUS,"
        "CALF,CAROTID,CEREBELLUM,CERVIX,CHEEK,CHEST,CHESTABDOMEN,CHESTABDPELVIS,CLAVICLE,COCCYX,COLON,CORNEA,"
        "CORONARYARTERY,CSPINE,CTSPINE,DUODENUM,EAR,ELBOW,ESOPHAGUS,EXTREMITY,EYE,FACE,FEMUR,FINGER,FOOT,GALLBLADDER,"
        "HAND,HEAD,HEADNECK,HEART,HIP,HUMERUS,ILEUM,ILIUM,JAW,JEJUNUM,KIDNEY,KNEE,LARYNX,LEG,LIVER,LSPINE,LSSPINE,"
        "LUNG,MAXILLA,MEDIASTINUM,MOUTH,NECK,NECKCHEST,NOSE,ORBIT,OVARY,PANCREAS,PAROTID,PATELLA,PELVIS,PENIS,PHARYNX,"
        "PLACENTA,PROSTATE,RECTUM,RIB,SACRUM,SCALP,SCAPULA,SCROTUM,SHOULDER,SIJOINT,SKIN,SKULL,SPINE,SPLEEN,SSPINE,"
        "STERNUM,STOMACH,TESTIS,THIGH,THUMB,THYMUS,THYROID,TIBIA,TLSPINE,TMJ,TOE,TONGUE,TRACHEA,TSPINE,UTERUS,VAGINA,"
        "VULVA,WHOLEBODY,WRIST,ZYGOMA"
    ),
    # C.8.1.1, C.8.11.7 and PS3.16 CID 4014
    "ViewPosition": _terms(
        "AP,PA,LL,RL,RLD,LLD,RLO,LLO,LAO,RAO,LPO,RPO,LATERAL,LAT,OBLIQUE,AXIAL,CC,MLO,ML,LM,LMO,SIO,XCC,XCCL,XCCM,FB,AT,CV"
    ),
    "Laterality": _terms("L,R"),
    "ImageLaterality": _terms("L,R,U,B"),
    "FrameLaterality": _terms("L,R,U,B"),
    "PatientOrientation": _terms("L,R,A,P,H,F,AL,AR,AH,AF,PL,PR,PH,PF,LA,LP,LH,LF,RA,RP,RH,RF,HL,HR,HA,HP,FL,FR,FA,FP"),
    "PatientPosition": _terms("HFP,HFS,HFDR,HFDL,FFDR,FFDL,FFP,FFS,LFP,LFS,RFP,RFS,AFDR,AFDL,PFDR,PFDL,SITTING"),
    "ImageType": _terms(
        "ORIGINAL,DERIVED,PRIMARY,SECONDARY,AXIAL,LOCALIZER,PROJECTION IMAGE,VOLUME,TOMOSYNTHESIS,SINGLE PLANE,"
        "BIPLANE A,BIPLANE B,OTHER,NONE,MIXED,MPR,MAX_IP,MIN_IP,M,P,R,I,SE,FFE,IR,TSE,ND,NORM,DIS2D,DIS3D,MFSPLIT"
    ),
    # C.7.6.1: whether whoever made the image says that text or a face can be seen in it
    "BurnedInAnnotation": _terms("YES,NO"),
    "RecognizableVisualFeatures": _terms("YES,NO"),
    "LossyImageCompression": _terms("00,01"),
    "LossyImageCompressionMethod": _terms("ISO_10918_1,ISO_14495_1,ISO_15444_1,ISO_13818_2,ISO_14496_10,ISO_23008_2"),
    # C.7.6.3.1.2
    "PhotometricInterpretation": _terms(
        "MONOCHROME1,MONOCHROME2,PALETTE COLOR,RGB,HSV,ARGB,CMYK,YBR_FULL,YBR_FULL_422,YBR_PARTIAL_422,"
        "YBR_PARTIAL_420,YBR_ICT,YBR_RCT,XYB",
        needed=True,
    ),
    # C.11.1.1.2, C.11.2.1.2, C.11.6.1
    "RescaleType": _terms("OD,HU,US,MGML,Z_EFF,ED,EDW,HU_MOD,PCT,CPS,NONE,PROPCPS,BQML"),
    "VOILUTFunction": _terms("LINEAR,LINEAR_EXACT,SIGMOID"),
    "PresentationLUTShape": _terms("IDENTITY,INVERSE"),
    "PixelSpacingCalibrationType": _terms("GEOMETRY,FIDUCIAL"),
    "ColorSpace": _terms("SRGB,ADOBERGB,ROMMRGB,DISPLAYP3"),
}

_LUT: dict[str, Rule] = _numbers("LUTDescriptor") | _binary("LUTData")
_WINDOW: dict[str, Rule] = _numbers("WindowCenter WindowWidth") | {"VOILUTFunction": _TERMS["VOILUTFunction"]}
_RESCALE: dict[str, Rule] = _numbers("RescaleIntercept RescaleSlope") | {"RescaleType": _TERMS["RescaleType"]}
# C.8.5.5: where in the picture each ultrasound image lies, and its units.
_REGION = _numbers(
    "RegionSpatialFormat RegionDataType RegionFlags RegionLocationMinX0 RegionLocationMinY0 RegionLocationMaxX1 "
    "RegionLocationMaxY1 ReferencePixelX0 ReferencePixelY0 PhysicalUnitsXDirection PhysicalUnitsYDirection "
    "ReferencePixelPhysicalValueX ReferencePixelPhysicalValueY PhysicalDeltaX PhysicalDeltaY"
)
# C.7.6.16.2 and C.8.x: the functional groups that change how a frame looks or where it lies.
_FUNCTIONAL_GROUPS: dict[str, Rule] = {
    "PixelMeasuresSequence": Group(_numbers("PixelSpacing SliceThickness SpacingBetweenSlices")),
    "PlanePositionSequence": Group(_numbers("ImagePositionPatient")),
    "PlaneOrientationSequence": Group(_numbers("ImageOrientationPatient")),
    "FrameVOILUTSequence": Group(_WINDOW | {"VOILUTSequence": Group(_LUT)}),
    "PixelValueTransformationSequence": Group(_RESCALE),
    "FrameAnatomySequence": Group({"FrameLaterality": _TERMS["FrameLaterality"], "AnatomicRegionSequence": Code()}),
    "FrameContentSequence": Group(_numbers("DimensionIndexValues InStackPositionNumber FrameAcquisitionNumber")),
}

KEEP: dict[str, Rule] = (
    {keyword: rule for keyword, rule in _TERMS.items() if keyword not in ("FrameLaterality",)}
    # C.7.6.3, C.7.6.6 and C.7.5.1: the pixels
    | _numbers(
        "SamplesPerPixel Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation PlanarConfiguration "
        "PixelAspectRatio SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue PixelPaddingRangeLimit "
        "NumberOfFrames RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor "
        "BluePaletteColorLookupTableDescriptor AlphaPaletteColorLookupTableDescriptor LossyImageCompressionRatio"
    )
    | _binary(
        "RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData "
        "AlphaPaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData "
        "SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData "
        "PixelData FloatPixelData DoubleFloatPixelData ExtendedOffsetTable ExtendedOffsetTableLengths"
    )
    # C.11.1 and C.11.2
    | _RESCALE
    | _WINDOW
    | {"ModalityLUTSequence": Group(_LUT), "VOILUTSequence": Group(_LUT)}
    # 10.7, C.7.6.2 and the spacings of single modalities
    | _numbers(
        "PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing EstimatedRadiographicMagnificationFactor "
        "SliceThickness SpacingBetweenSlices ImagePositionPatient ImageOrientationPatient InstanceNumber"
    )
    | {"SequenceOfUltrasoundRegions": Group(dict(_REGION))}
    | {"ViewCodeSequence": Code(), "AnatomicRegionSequence": Code()}
    | {
        "SharedFunctionalGroupsSequence": Group(_FUNCTIONAL_GROUPS),
        "PerFrameFunctionalGroupsSequence": Group(_FUNCTIONAL_GROUPS),
    }
)
