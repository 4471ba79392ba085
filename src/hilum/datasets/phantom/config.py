"""What a phantom cohort is made of: its config, and the devices of its hospitals."""

from dataclasses import dataclass

from hilum.errors import ConfigError

MARKER_STYLES = ("plain", "boxed", "ringed")
"""How the laterality letter is drawn; with a planted shortcut, style i follows class i."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An invented X-ray machine. Values of pixels are fractions of black to white."""

    manufacturer: str
    """Invented, so that no real maker is blamed for a synthetic film."""
    model: str
    """Invented model name."""
    modality: str
    """CR or DX."""
    photometric: str
    """MONOCHROME1 or MONOCHROME2."""
    bits_stored: int
    """12 or 14 of the 16 allocated."""
    aspect: float
    """Columns over rows."""
    long_side_mm: float
    """Height of the detector: the pixel spacing follows from it."""
    sigma: float
    """Deviation of the noise at mid exposure."""
    grain: int
    """Width of a noise grain in pixels: 1 for a flat panel, 2 for a storage phosphor plate."""
    softening: int
    """How often anatomy is smoothed over its neighbours at half resolution; 0 is sharp."""
    grid_lines: float
    """Amplitude of the anti-scatter grid's pattern."""
    gamma: float
    """Exponent of the display curve: above 1 darkens the lungs."""
    zoom: float
    """Size of the chest in the frame: a smaller one shows more of the abdomen and the neck."""
    collimation: float
    """Greatest width of the unexposed border, as a share of a side."""
    marker_share: tuple[float, float, float]
    """How often each of the marker styles is used."""


DEVICES: tuple[Device, ...] = (
    Device(
        manufacturer="Northlight Imaging (synthetic)",
        model="Aurora DX-4",
        modality="DX",
        photometric="MONOCHROME2",
        bits_stored=12,
        aspect=1.0,
        long_side_mm=430.0,
        sigma=0.011,
        grain=1,
        softening=2,
        grid_lines=0.0,
        gamma=1.0,
        zoom=1.0,
        collimation=0.02,
        marker_share=(0.6, 0.2, 0.2),
    ),
    Device(
        manufacturer="Meridian Radiology (synthetic)",
        model="Plate Reader 220",
        modality="CR",
        photometric="MONOCHROME1",
        bits_stored=14,
        aspect=0.875,
        long_side_mm=420.0,
        sigma=0.019,
        grain=2,
        softening=3,
        grid_lines=0.004,
        gamma=1.18,
        zoom=0.93,
        collimation=0.05,
        marker_share=(0.2, 0.5, 0.3),
    ),
)
"""Hospital i has device i; with more hospitals than devices, they are used in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomConfig:
    """A cohort of procedural chest radiographs."""

    patients: int = 400
    """Number of patients; each has one film or two."""
    size: int = 1024
    """Rows of a film, ≥ 64 and divisible by four."""
    difficulty: float = 1.0
    """How faint the lesions are against everything else: 0.5 is plain, 2 is hard; > 0."""
    seed: int = 0
    """Seed of all chance."""
    hospitals: tuple[str, ...] = ("hospital-a", "hospital-b")
    """Names of the hospitals: the sources of the films, each with its own device."""
    second_film_share: float = 0.25
    """Share of patients with a second film some days later, 0 … 1."""
    shortcut: float = 0.0
    """Probability that the marker's style follows the class: a planted fault for audits, 0 … 1."""

    def __post_init__(self) -> None:
        problems = []
        if self.patients < 1:
            problems.append(f"patients is {self.patients}, but a cohort needs at least one.")
        if self.size < 64 or self.size % 4:
            problems.append(f"size is {self.size}, but a film needs 64 rows or more, divisible by four.")
        if not self.difficulty > 0:
            problems.append(f"difficulty is {self.difficulty}, but must be above 0.")
        if not self.hospitals or len(set(self.hospitals)) < len(self.hospitals):
            problems.append(f"hospitals is {self.hospitals}, but needs one or more distinct names.")
        problems += [
            f"hospital {name!r} can't name a folder: use letters, digits, '-' and '_'."
            for name in self.hospitals
            if not name or not all(c.isalnum() or c in "-_" for c in name)
        ]
        for name in ("second_film_share", "shortcut"):
            if not 0 <= getattr(self, name) <= 1:
                problems.append(f"{name} is {getattr(self, name)}, but must be within 0 … 1.")
        if problems:
            raise ConfigError(problems)

    def device(self, hospital: int) -> Device:
        """The device of a hospital, by the hospital's number."""
        return DEVICES[hospital % len(DEVICES)]
