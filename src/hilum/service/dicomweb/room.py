"""What the DICOMweb routes share, opened and closed with the reading room."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from hilum.records.database import Database
from hilum.records.dicom_index import DicomIndex
from hilum.records.events import Events
from hilum.service.dicomweb.indexing import Indexer
from hilum.service.dicomweb.making import Maker
from hilum.service.film_files import FilmFiles
from hilum.service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomWeb:
    """The parts."""

    index: DicomIndex
    """What is found."""
    indexer: Indexer
    """What keeps it up to date."""
    maker: Maker
    """What makes what is fetched."""


def make_dicomweb(settings: Settings, database: Database, files: FilmFiles) -> DicomWeb:
    """Put the parts together; nothing runs yet."""
    index = DicomIndex(database)
    organization = settings.results_organization
    return DicomWeb(
        index=index,
        indexer=Indexer(index, Events(database), files, verified=bool(organization)),
        maker=Maker(
            index,
            files,
            organization=organization,
            memory_mb=settings.decode_memory_mb,
            wall_s=settings.decode_wall_s,
        ),
    )


@contextlib.contextmanager
def open_dicomweb(web: DicomWeb) -> Iterator[None]:
    """Follow the events until the context is left."""
    web.indexer.start()
    try:
        yield
    finally:
        web.indexer.stop()
        web.maker.close()
