"""Data keys are read whole or refused, seal values to their place, and find exact values without showing them."""

from pathlib import Path

import pytest

from hilum.data_keys import (
    DataKey,
    Keyring,
    create_key_file,
    new_data_key,
    put_first,
    read_data_key,
    read_keyring,
)
from hilum.errors import DataError, UsageError

A, B = DataKey(raw=bytes(range(32))), DataKey(raw=bytes(32))


def test_a_written_key_is_read_back() -> None:
    key = new_data_key()
    assert read_data_key(key.text) == key
    assert len(key.text) == 53
    assert A.id != B.id
    assert A.raw.hex() not in repr(A) + A.id


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t.replace("A", "B", 1), lambda t: t[5:], lambda _: "ä"])
def test_a_key_that_was_copied_wrongly_is_refused_and_not_repeated(change: object) -> None:
    text = change(A.text)  # type: ignore[operator]
    with pytest.raises(UsageError, match="damaged or is none") as raised:
        read_data_key(text)
    assert text not in str(raised.value)


def test_keys_come_from_text_or_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    first = create_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    put_first(path, A)
    assert read_keyring(None, path).ids == (A.id, first.id)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_keyring(f"{A.text}, {B.text}", None).active == A
    assert not read_keyring(None, None)
    with pytest.raises(UsageError, match="never overwritten"):
        create_key_file(path)
    with pytest.raises(UsageError, match="given twice. Set"):
        read_keyring(A.text, path)
    with pytest.raises(UsageError, match="key is given twice"):
        read_keyring(f"{A.text},{A.text}", None)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_keyring(None, path)
    with pytest.raises(UsageError, match="can't be read"):
        read_keyring(None, tmp_path / "none")
    (tmp_path / "empty").touch(mode=0o600)
    with pytest.raises(UsageError, match="no data key in"):
        read_keyring(None, tmp_path / "empty")


def test_a_sealed_value_opens_at_its_place_only() -> None:
    ring = Keyring([A])
    sealed = ring.seal(b"secret", b"row 1")
    assert b"secret" not in sealed
    assert sealed != ring.seal(b"secret", b"row 1"), "equal values look different"
    assert Keyring([B, A]).open(sealed, b"row 1", A.id) == b"secret"
    with pytest.raises(DataError, match="changed, or moved"):
        ring.open(sealed, b"row 2", A.id)
    with pytest.raises(DataError, match="changed, or moved"):
        ring.open(sealed[:5], b"row 1", A.id)
    with pytest.raises(DataError, match=f"data key {A.id}, and given are {B.id}"):
        Keyring([B]).open(sealed, b"row 1", A.id)
    with pytest.raises(DataError, match="none is given"):
        Keyring().open(sealed, b"row 1", A.id)
    assert Keyring().seal(b"plain", b"row") == b"plain" == ring.open(b"plain", b"row", "")


def test_an_index_finds_equal_values_and_nothing_else() -> None:
    ring = Keyring([A])
    assert ring.index("patient", " P1 ") == ring.index("patient", "P1")
    others = {ring.index("patient", "P2"), ring.index("study", "P1"), Keyring([B]).index("patient", "P1")}
    assert len({*others, ring.index("patient", "P1"), Keyring().index("patient", "P1")}) == 5
