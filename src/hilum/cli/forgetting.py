"""What was erased in the service, taken out of retraining too: the records say what, the rounds know where it is."""

from dataclasses import dataclass
from pathlib import Path

ERASED, FORGOTTEN = "film.erased", "retraining.erased"
"""Acts of the audit: of the service, and of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was done."""

    films: tuple[str, ...]
    """Opaque ids of erased films that retraining held."""
    files: int
    """Copies that were removed."""
    versions: tuple[int, ...]
    """Versions that were retired."""
    caches: tuple[Path, ...]
    """Folders that may hold what was decoded of them."""

    @property
    def lines(self) -> list[str]:
        """The same in sentences."""
        if not self.films:
            return ["retraining holds none of the films that were erased"]
        numbers = ", ".join(map(str, self.versions)) or "none"
        said = [f"{len(self.films)} erased films: {self.files} copies removed, versions retired: {numbers}"]
        for path in self.caches:
            said.append(f"what was decoded of them lies in {path} until you remove it, while no training runs")
        return said


def forget_erased(out: Path, data: Path) -> Forgotten:
    """Remove copies of films that the service erased, and retire the versions that hold them; each is in the audit.

    Args:
        out: folder of versions and rounds.
        data: the service's.

    Raises:
        UsageError: there are no records that would say what was erased.
        DataError: a version is damaged or was changed.
    """
    from sqlalchemy import select

    from hilum.cli.records import records_if_any
    from hilum.errors import UsageError
    from hilum.provenance import now_utc
    from hilum.records.audit import Act, append_all
    from hilum.records.schema import AuditRow
    from hilum.records.store import now
    from hilum.runs.forgetting import caches, forget, held
    from hilum.runs.rounds import Rounds

    rounds = Rounds(out)
    with records_if_any(data) as session:
        if session is None:
            raise UsageError(f"There are no records in {data} that would say what was erased. Give --data.")
        erased = set(session.scalars(select(AuditRow.subject).where(AuditRow.act == ERASED)))
        films = held(rounds, erased)
        told = set(session.scalars(select(AuditRow.subject).where(AuditRow.act == FORGOTTEN)))
        digests = {one.number: one.sha256 for one in rounds.versions()}
        acts = [
            Act(actor="console", act=FORGOTTEN, subject=film, detail={"versions": [digests[one] for one in numbers]})
            for film, numbers in sorted(films.items())
            if film not in told or numbers
        ]
        append_all(session, acts, now())
    # Rows first: what a kill leaves is found again by the next call, since files and versions are still there.
    files = forget(rounds, films, at=now_utc())
    versions = tuple(sorted({number for numbers in films.values() for number in numbers}))
    return Forgotten(films=tuple(films), files=files, versions=versions, caches=caches(rounds) if films else ())
