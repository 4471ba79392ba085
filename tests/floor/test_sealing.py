"""An encrypted file opens whole, under its own name, or not at all."""

import io

import pytest

from hilum.data_keys import DataKey, Keyring
from hilum.errors import DataError
from hilum.sealing import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES, Sealer, chunks, key_id_of, new_file_key, sealed_bytes

KEY = DataKey(raw=bytes(range(32)))
RING = Keyring([KEY])
CHUNK = 16


def sealed(plain: bytes, name: str = "a", step: int = 7) -> bytes:
    sealer = Sealer(new_file_key(KEY), CHUNK)
    parts = [sealer.update(plain[at : at + step]) for at in range(0, len(plain), step)]
    return b"".join([*parts, sealer.finish(name)])


def opened(content: bytes, name: str = "a") -> bytes:
    return b"".join(chunks(io.BytesIO(content), RING, name))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 32, 33, 100])
@pytest.mark.parametrize("step", [1, 16, 1000])
def test_what_went_in_comes_out(size: int, step: int) -> None:
    plain = bytes(range(size))
    content = sealed(plain, step=step)
    assert opened(content) == plain
    assert len(content) == HEADER_BYTES + size + TAG_BYTES * max(1, -(-size // CHUNK))
    assert key_id_of(content) == KEY.id
    assert key_id_of(b"\x89PNG" * 20) == key_id_of(b"HILUMENC") == ""


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_the_length_of_an_encrypted_file_is_known_before(size: int) -> None:
    sealer = Sealer(new_file_key(KEY))
    assert len(sealer.update(bytes(size)) + sealer.finish("a")) == sealed_bytes(size)


def test_the_key_of_one_file_opens_no_other_and_is_not_shown() -> None:
    one, other = new_file_key(KEY), new_file_key(KEY)
    assert one.raw != other.raw
    assert repr(one.raw) not in repr(one)


def test_every_flipped_bit_is_found() -> None:
    content = sealed(bytes(40))
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(DataError):
            opened(bytes(changed))


def test_every_cut_is_found_and_so_is_anything_added() -> None:
    content = sealed(bytes(40))
    for size in range(len(content)):
        with pytest.raises(DataError):
            opened(content[:size])
    with pytest.raises(DataError, match="cut, changed"):
        opened(content + b"x")


def test_chunks_have_their_places() -> None:
    content, width = sealed(bytes(64)), CHUNK + TAG_BYTES
    parts = [content[at : at + width] for at in range(HEADER_BYTES, len(content), width)]
    for order in ((1, 0, 2, 3), (0, 2, 3), (0, 0, 1, 2, 3), (0, 1, 2), (0, 3)):
        with pytest.raises(DataError, match="cut, changed, or put in another's place"):
            opened(content[:HEADER_BYTES] + b"".join(parts[i] for i in order))


def test_a_file_under_another_name_is_found() -> None:
    with pytest.raises(DataError, match="put in another's place"):
        opened(sealed(bytes(40), "a"), "b")
    one, other = sealed(bytes(40)), sealed(bytes(range(40)))
    with pytest.raises(DataError, match="cut, changed"):
        opened(one[: HEADER_BYTES + CHUNK + TAG_BYTES] + other[HEADER_BYTES + CHUNK + TAG_BYTES :])


def test_another_key_and_another_version_are_named() -> None:
    content = sealed(bytes(40))
    with pytest.raises(DataError, match=f"data key {KEY.id}, and given are"):
        list(chunks(io.BytesIO(content), Keyring([DataKey(raw=bytes(32))]), "a"))
    for at in (8, 9, 12):
        with pytest.raises(DataError, match="doesn't know, or its header is damaged"):
            opened(content[:at] + b"\x09" + content[at + 1 :])
    with pytest.raises(DataError, match="header is missing"):
        opened(b"")
