"""The next version of the data: the locked test stays what it is, folds stay, and what can't be drawn is named."""

from collections.abc import Callable

import numpy as np
import pytest

from hilum.arrays import Array
from hilum.datasets.manifest import Manifest
from hilum.datasets.next_version import Sides, check_names, next_version, prove_apart, sides_of
from hilum.datasets.split_report import report_of
from hilum.datasets.splits import SplitConfig, split
from hilum.datasets.thumbs import make_thumb
from hilum.errors import DataError
from hilum.imaging.pseudonyms import Pseudonyms

Films = Callable[..., Manifest]
FINDINGS = ("normal", "pneumonia")


@pytest.fixture
def parent(films_of: Films) -> Manifest:
    films = films_of(24, patient_id=[f"p{i // 2}" for i in range(24)], label=[FINDINGS[i // 2 % 2] for i in range(24)])
    return split(films, SplitConfig(folds=2))


def new_films(films_of: Films, owners: list[str], labels: list[str] | None = None, **more: object) -> Manifest:
    n = len(owners)
    columns = {"film_id": [f"{1000 + i:064x}" for i in range(n)], "path": [f"new{i}.dcm" for i in range(n)]} | more
    return films_of(n, patient_id=owners, label=labels or [FINDINGS[i % 2] for i in range(n)], **columns)


def names(films: Manifest) -> list[str]:
    return [f"film{i}" for i in range(len(films))]


def test_new_films_join_the_fit_part_and_nothing_else_moves(films_of: Films, parent: Manifest) -> None:
    known = parent.strings("patient_id")[int(parent.rows(part="fit")[0])]
    fresh = new_films(films_of, ["new1", "new2", "new3", "new4", known])
    made, left_out = next_version(parent, fresh, names(fresh), findings=FINDINGS, ledger=sides_of(parent))
    assert left_out == ()
    assert len(made) == len(parent) + 5
    before = made.select(np.arange(len(parent)))
    assert before.fingerprint == parent.fingerprint
    test = made.select(made.rows(part="test"))
    assert test.fingerprint == parent.select(parent.rows(part="test")).fingerprint
    assert made.strings("part")[-5:] == ["fit"] * 5
    folds = made.column("fold")
    assert folds[-1] == folds[made.strings("patient_id").index(known)]
    sizes = [len(made.rows(part="fit", fold=fold)) for fold in (0, 1)]
    assert abs(sizes[0] - sizes[1]) <= 2
    assert report_of(made).overlap.total == 0
    assert "5 films were added" in report_of(made).warnings[0]


def test_the_order_of_new_films_changes_no_fold(films_of: Films, parent: Manifest) -> None:
    fresh = new_films(films_of, [f"new{i}" for i in range(6)])
    ledger = sides_of(parent)
    made = [
        next_version(parent, films, names(films), findings=FINDINGS, ledger=ledger)[0]
        for films in (fresh, fresh.select([5, 3, 1, 0, 2, 4]))
    ]
    assert made[0].fingerprint == made[1].fingerprint


def test_films_that_can_not_be_drawn_are_refused_by_name(films_of: Films, parent: Manifest) -> None:
    locked = parent.strings("patient_id")[int(parent.rows(part="test")[0])]
    there = parent.strings("film_id")[int(parent.rows(part="fit")[0])]
    ids = [f"{1000 + i:064x}" for i in range(6)]
    ids[2], ids[4] = there, ids[3]
    fresh = new_films(films_of, [locked, "", "n2", "n3", "n3", "n5"], ["normal"] * 5 + ["flu"], film_id=ids)
    arguments = {"findings": FINDINGS, "ledger": sides_of(parent)}
    with pytest.raises(DataError) as told:
        next_version(parent, fresh, names(fresh), **arguments)
    said = str(told.value)
    assert said.startswith("6 of 6 labelled films can't be drawn: film film0 is of a patient of the locked test")
    for part in ("film1 has no patient", "film2 is in the version before", "film3 is labelled twice", "and 1 more"):
        assert part in said
    assert locked not in said.replace("film0", "")
    with pytest.raises(DataError, match=r"No labelled film is left to add .*Accept labels first"):
        next_version(parent, fresh, names(fresh), leave_out=True, **arguments)
    mixed = new_films(films_of, [locked, "n1", "n2"])
    made, left_out = next_version(parent, mixed, names(mixed), leave_out=True, **arguments)
    assert len(made) == len(parent) + 2
    assert [(one.film, "locked test" in one.reason) for one in left_out] == [("film0", True)]


def test_a_copy_of_a_locked_film_is_found_under_another_name(
    films_of: Films, parent: Manifest, field: Callable[..., Array]
) -> None:
    row = int(parent.rows(part="test")[0])
    thumbs = [make_thumb(field(i)).tobytes() for i in range(len(parent))]
    fresh = new_films(films_of, ["n0", "n1"], thumb=[thumbs[row], make_thumb(field(99)).tobytes()])
    arguments = {"findings": FINDINGS, "ledger": sides_of(parent)}
    with pytest.raises(DataError, match="1 of 2 labelled films can't be drawn: film film0 is a copy of a film of the"):
        next_version(parent.with_columns(thumb=thumbs), fresh, names(fresh), **arguments)


def test_nothing_new_is_no_version(films_of: Films, parent: Manifest) -> None:
    with pytest.raises(DataError, match="No labelled film is left to add, so there is no next version"):
        next_version(parent, new_films(films_of, ["n"]).select([]), [], findings=FINDINGS, ledger=sides_of(parent))


def test_who_was_trained_on_never_enters_the_locked_test(films_of: Films, parent: Manifest) -> None:
    mine = sides_of(parent)
    ledger = Sides(locked=frozenset(), trained=frozenset(sorted(mine.locked)[:1]))
    fresh = new_films(films_of, ["n"])
    with pytest.raises(DataError, match="1 patients of the locked test were trained on"):
        next_version(parent, fresh, names(fresh), findings=FINDINGS, ledger=ledger)
    prove_apart(mine, what="The split")


def test_parts_without_patients_have_no_sides(films_of: Films, parent: Manifest) -> None:
    blank = parent.with_columns(patient_id=[""] * len(parent))
    with pytest.raises(DataError, match="films of the test part have no patient_id"):
        sides_of(blank)


def test_patients_are_named_in_one_way(films_of: Films, parent: Manifest) -> None:
    """Else a patient of the locked test would come back under another name."""
    hidden = [Pseudonyms(bytes(range(32))).patient(str(i)) for i in range(3)]
    plain, secret = sides_of(parent), Sides(locked=frozenset(hidden[:1]), trained=frozenset(hidden[1:]))
    check_names(plain, new_films(films_of, ["4711", ""]))
    check_names(secret, new_films(films_of, hidden))
    with pytest.raises(DataError, match="before have pseudonyms, and those of 1 labelled films don't.*--pseudonym-key"):
        check_names(secret, new_films(films_of, [hidden[0], "4711"]))
    with pytest.raises(DataError, match="before have no pseudonyms, and those of 3 labelled films do"):
        check_names(plain, new_films(films_of, hidden))
