"""Small films for the tests of this room."""

import io

import numpy as np
import pytest


def _as_bytes(dataset):
    """A pydicom data set as a file's bytes."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _gradient(bits=12, shape=(33, 47)):
    """A smooth picture that holds the smallest and the largest code."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    values = (y / (shape[0] - 1) * 0.7 + x / (shape[1] - 1) * 0.3) * ((1 << bits) - 1)
    return np.rint(values).astype(np.uint8 if bits == 8 else np.uint16)


def _chest_like(shape=(256, 224), bits=12):
    """Two dark ovals in a brighter body: not a radiograph, but neither blank nor noise."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    y, x = y / shape[0], x / shape[1]
    body = 0.75 - 0.3 * (np.abs(x - 0.5) ** 2)
    lungs = sum(np.exp(-(((x - cx) / 0.14) ** 4) - ((y - 0.45) / 0.3) ** 4) for cx in (0.3, 0.7))
    return np.rint((body - 0.45 * lungs) * ((1 << bits) - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.fixture(scope="session")
def as_bytes():
    """The function as_bytes."""
    return _as_bytes


@pytest.fixture(scope="session")
def gradient():
    """The function gradient."""
    return _gradient


@pytest.fixture(scope="session")
def chest_like():
    """The function chest_like."""
    return _chest_like
