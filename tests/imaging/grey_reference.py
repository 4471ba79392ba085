"""Grey values as the standard states them, pixel by pixel: PS3.3 C.11.1 and C.11.2, apart from the code under test."""

import math

import numpy as np
from pydicom.dataset import Dataset

BITS = (8, 10, 12, 14, 16)
MODALITIES = ("none", "rescale", "lut")
VOIS = ("none", "LINEAR", "LINEAR_EXACT", "SIGMOID", "lut")
LUT_ENTRIES, LUT_FIRST = 40, 7


def modality_lut(value):
    """A 12-bit Modality LUT of 40 entries, the first for input 7."""
    return (min(max(value - LUT_FIRST, 0), LUT_ENTRIES - 1) * 97 + 11) % 4096


def voi_lut(value, first):
    """A 10-bit VOI LUT of 40 entries."""
    return min(max(math.floor(value + 0.5) - first, 0), LUT_ENTRIES - 1) ** 2 % 1024


def modal(stored, modality):
    """Modality LUT or rescale of one stored value."""
    return stored * 0.5 - 3.0 if modality == "rescale" else modality_lut(stored) if modality == "lut" else stored


def reference(x, *, bits, signed, photometric, modality, voi, in_use):
    """One modality value to its presentation value, float64, transcribed clause by clause for this test alone."""
    center, width = window(modality, bits, signed)
    if voi == "LINEAR":
        if x <= center - 0.5 - (width - 1) / 2:
            y = 0.0
        elif x > center - 0.5 + (width - 1) / 2:
            y = 1.0
        else:
            y = (x - (center - 0.5)) / (width - 1) + 0.5
    elif voi == "LINEAR_EXACT":
        y = 0.0 if x <= center - width / 2 else 1.0 if x > center + width / 2 else (x - center) / width + 0.5
    elif voi == "SIGMOID":
        y = 1 / (1 + math.exp(-4 * (x - center) / width))
    elif voi == "lut":
        y = voi_lut(x, voi_first(modality, signed)) / 1023
    else:
        y = (x - in_use[0]) / (in_use[1] - in_use[0])
    return (1 - y if photometric == "MONOCHROME1" else y) * 65535


def codes_of(bits, signed):
    return range(-(1 << (bits - 1)), 1 << (bits - 1)) if signed else range(1 << bits)


def window(modality, bits, signed):
    if modality == "lut":
        return 1000.0, 1500.0
    middle = 0 if signed else 1 << (bits - 1)
    return (middle * 0.5 - 3.0, (1 << bits) * 0.3) if modality == "rescale" else (middle + 0.25, (1 << bits) * 0.6)


def voi_first(modality, signed):
    return 100 if modality == "lut" else -12 if signed else 20


def lut_sequence(entries, first, bits, *, descriptor_vr, order="<"):
    item = Dataset()
    item.add_new(0x00283002, descriptor_vr, [len(entries), first, bits])
    item.add_new(0x00283006, "OW", np.array(entries, order + "u2").tobytes())
    return [item]


def spread_values(bits, signed):
    """Extremes, the middle, the range of the small look-up tables, and steps over everything: 16 × 16 values."""
    low, high = codes_of(bits, signed)[0], codes_of(bits, signed)[-1]
    values = [low, high, low + 1, high - 1, (low + high) // 2, *range(max(low, -20), min(high, 60))]
    values += [int(v) for v in np.linspace(low, high, 256 - len(values))]
    kind = {(8, False): np.uint8, (8, True): np.int8}.get((bits, signed), np.int16 if signed else np.uint16)
    return np.array(values, kind).reshape(16, 16)
