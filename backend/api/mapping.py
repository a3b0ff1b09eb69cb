"""Where the labels of a data set come from: a preview while it is being said, and setting it."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from backend.api.datasets import fetch
from backend.api.dependencies import DatasetDep, IntakeDep
from backend.api.schemas import PROBLEMS, ClassCount, DatasetOut
from backend.labelling import apply_mapping, preview_mapping
from wara.data.mapping import Mapping

router = APIRouter(tags=["datasets"], responses=PROBLEMS)


class MappingIn(BaseModel):
    """Where labels, patients and sides of the split come from."""

    model_config = ConfigDict(extra="forbid")

    source: Literal["folders", "table", "pattern", "dicom"] = Field(description="Where the label comes from.")
    table: str | None = Field(default=None, description="Name of the table in the data set (CSV, TSV or .xlsx).")
    sheet: str | None = Field(default=None, description="Sheet of a workbook.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="The table's columns for file, label, patient and split; none to guess them."
    )
    depth: int | None = Field(default=None, description="Folder that is the class: 1 the top one, -1 the file's own.")
    pattern: str | None = Field(
        default=None, description="Regular expression over file names with the groups label, patient and split."
    )
    label_tag: str | None = Field(default=None, description="DICOM attribute that is the label.")
    patient_tag: str | None = Field(default=None, description="DICOM attribute that is the patient; else PatientID.")
    rename: dict[str, str] = Field(default_factory=dict, description="New names of labels.")
    leave_out: list[str] = Field(default_factory=list, description="Labels whose images are not used.")

    def mapping(self) -> Mapping:
        """Return it as the library takes it."""
        return Mapping.from_dict(self.model_dump())


class ColumnOut(BaseModel):
    """A column of a table; samples are left out where they may tell who somebody is."""

    name: str
    distinct: int
    matches: int
    samples: list[str]


class TableOut(BaseModel):
    """The table in use."""

    name: str
    sheet: str | None
    sheets: list[str]
    rows: int
    columns: list[ColumnOut]


class FileOut(BaseModel):
    """What a mapping says of one file; the patient is a code."""

    file: str
    label: str | None
    patient: str | None
    split: str | None
    groups: dict[str, str]
    reason: str | None


class ReasonOut(BaseModel):
    """Why files are not used, how many, and one of them."""

    reason: str
    count: int
    example: str


class UnusedOut(BaseModel):
    """Files that are not used."""

    count: int
    reasons: list[ReasonOut]


class MappingProblem(BaseModel):
    """Why the mapping cannot be used as it stands; a preview answers with it while somebody is still writing."""

    title: str
    seen: str | None
    remedy: str
    code: str


class PreviewOut(BaseModel):
    """What a mapping would give. ``counted`` images were looked at, of ``images`` in all."""

    mapping: dict[str, Any]
    guessed: list[str]
    tables: list[str]
    table: TableOut | None
    images: int
    counted: int
    used: int
    labels: list[ClassCount]
    label_count: int
    patients: int | None
    splits: dict[str, int]
    unused: UnusedOut
    rows_without_file: int
    rows: list[FileOut]
    warnings: list[str]
    problem: MappingProblem | None


@router.post("/datasets/{dataset_id}/mapping/preview")
def preview_dataset_mapping(dataset: DatasetDep, intake: IntakeDep, body: MappingIn | None = None) -> PreviewOut:
    """Say what a mapping would give, from names, tables and DICOM headers; without one, what is set or guessed."""
    mapping = None if body is None else body.mapping()
    return PreviewOut.model_validate(preview_mapping(intake, dataset, mapping))


@router.put("/datasets/{dataset_id}/mapping", status_code=202)
def set_dataset_mapping(dataset_id: str, body: MappingIn, intake: IntakeDep) -> DatasetOut:
    """Take labels, patients and sides from there; the images are then checked again in the background."""
    apply_mapping(intake, dataset_id, body.mapping())
    return fetch(intake, dataset_id)
