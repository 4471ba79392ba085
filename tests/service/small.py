"""The smallest real model and the smallest films: answers depend on the bytes, so a mix-up would show."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from hilum.errors import FilmError
from hilum.imaging.viewing import ViewerFilm, read_for_viewing
from hilum.records.values import HeatmapRecord, Identity, NewAnswer
from hilum.service.answering import Model, Ready

CR = "1.2.840.10008.5.1.4.1.1.1"
FINDINGS = ("normal", "pneumonia", "covid-19")


class SmallModel:
    """Reads DICOM, PNG and JPEG; its probabilities come from the pixels' mean."""

    trouble: str | None = None

    def __init__(self, sha256: str = "5" * 64) -> None:
        self.model = Model(sha256=sha256, name="small", version="1", findings=FINDINGS)
        self.answered: list[int] = []

    def prepare(self, path: Path) -> Ready:
        content = path.read_bytes()
        pixels, identity = read(content)
        return Ready(identity=identity, prepared=(hashlib.sha256(content).hexdigest(), float(pixels.mean())))

    def answer(self, films: Sequence[Ready]) -> list[NewAnswer]:
        self.answered.append(len(films))
        return [self._answer(*film.prepared) for film in films]

    def _answer(self, digest: str, mean: float) -> NewAnswer:
        risk = mean / 255
        probs = {"normal": 1 - risk, "pneumonia": 0.75 * risk, "covid-19": 0.25 * risk}
        label = max(probs, key=lambda name: probs[name])
        if mean < 1:
            gate = {"analyse": False, "checks": [{"code": "black", "outcome": "fail", "sentence": "All black."}]}
            return NewAnswer(
                model_sha256=self.model.sha256,
                analysed=False,
                label=None,
                abstained=False,
                risk=None,
                assessment={"gate": gate, "reasons": ["All black."]},
                reason="All black.",
            )
        heat = np.linspace(0, 1, 49, dtype="<f4")
        return NewAnswer(
            model_sha256=self.model.sha256,
            analysed=True,
            label=label,
            abstained=False,
            risk=risk,
            assessment={
                "probs": probs,
                "positive": [label] if label != "normal" else [],
                "uncertainty": {"mc_std": dict.fromkeys(probs, 0.03), "mutual_information": 0.01},
                "reasons": [],
                "gate": {"analyse": True, "checks": [{"code": "chest", "outcome": "pass", "sentence": "A chest."}]},
                "provenance": {"bundle_sha256": self.model.sha256, "film_sha256": digest},
            },
            heatmaps=tuple(HeatmapRecord(finding=f, rows=7, columns=7, values=heat.tobytes()) for f in FINDINGS),
        )


class SmallDrawing:
    """Draws with Pillow."""

    def film(self, path: Path) -> bytes:
        return as_png(read(path.read_bytes())[0])

    def pixels(self, path: Path) -> ViewerFilm:
        return read_for_viewing(path.read_bytes())

    def heatmap(
        self, path: Path, heatmap: HeatmapRecord, *, assessment: Mapping[str, Any], layer: bool, style: str = "heat"
    ) -> bytes:
        pixels, _ = read(path.read_bytes())
        heat = np.frombuffer(heatmap.values, "<f4").reshape(heatmap.rows, heatmap.columns)
        big = np.asarray(Image.fromarray(heat).resize(pixels.shape[::-1]))
        return as_png((big * 255).astype(np.uint8) if layer else (pixels // 2 + (big * 127).astype(np.uint8)))


def read(content: bytes) -> tuple[np.ndarray, Identity]:
    try:
        if content[128:132] == b"DICM":
            film = pydicom.dcmread(io.BytesIO(content))
            identity = Identity(
                sop_instance_uid=str(film.SOPInstanceUID),
                study_instance_uid=str(film.StudyInstanceUID),
                patient_id=str(film.PatientID),
                accession_number=str(film.AccessionNumber),
            )
            return np.frombuffer(film.PixelData, np.uint8).reshape(film.Rows, film.Columns), identity
        return np.asarray(Image.open(io.BytesIO(content)).convert("L")), Identity()
    except Exception as error:
        raise FilmError(f"The film can't be read ({type(error).__name__}).", code="unreadable") from None


def as_png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def png(level: int = 128, size: int = 16) -> bytes:
    """A PNG of one grey level; another size makes another film."""
    return as_png(np.full((size, size), level, np.uint8))


def dataset(number: int = 1, level: int = 128, **changes: object) -> Dataset:
    """A synthetic CR film."""
    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = CR, f"1.2.826.0.1.3680043.10.1.{number}"
    film.StudyInstanceUID = "1.2.826.0.1.3680043.10.2"
    film.PatientID, film.PatientName, film.AccessionNumber = "P1", "Synthetic^Patient", "A1"
    film.Modality, film.BodyPartExamined, film.ViewPosition = "CR", "CHEST", "PA"
    film.Rows = film.Columns = 16
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelRepresentation = 7, 0
    film.PixelData = bytes([level]) * 256
    for name, value in changes.items():
        setattr(film, name, value)
    film.file_meta = FileMetaDataset()
    film.file_meta.MediaStorageSOPClassUID, film.file_meta.MediaStorageSOPInstanceUID = CR, film.SOPInstanceUID
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return film


def dicom(number: int = 1, level: int = 128, *, preamble: bytes = bytes(128), **changes: object) -> bytes:
    """The same as a Part 10 file."""
    film, out = dataset(number, level, **changes), io.BytesIO()
    film.preamble = preamble
    film.save_as(out, enforce_file_format=True)
    return out.getvalue()


def with_head(content: bytes, **elements: object) -> bytes:
    """The same film under other File Meta Information, written by pydicom; None leaves an element out."""
    meta = pydicom.dcmread(io.BytesIO(content)).file_meta
    for name, value in elements.items():
        if value is None:
            delattr(meta, name)
        else:
            setattr(meta, name, value)
    out = io.BytesIO()
    write_file_meta_info(DicomFileLike(out), meta, enforce_standard=None not in elements.values())
    return bytes(128) + b"DICM" + out.getvalue() + content[144 + int.from_bytes(content[140:144], "little") :]


def kept(content: bytes) -> bytes:
    """What the service keeps of a DICOM film."""
    came, out = pydicom.dcmread(io.BytesIO(content)).file_meta, io.BytesIO()
    meta = FileMetaDataset()
    for name in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID", "TransferSyntaxUID"):
        setattr(meta, name, came[name].value)
    meta.ImplementationClassUID = "2.25.264911737201870532921839437261528830927"
    meta.ImplementationVersionName = "HILUM"
    write_file_meta_info(DicomFileLike(out), meta)
    return bytes(128) + b"DICM" + out.getvalue() + content[144 + int.from_bytes(content[140:144], "little") :]
