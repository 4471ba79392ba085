"""How big a file may be before it is refused, checked in Python integers before anything is decoded."""

from dataclasses import dataclass

from hilum.errors import FilmError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a film may cost. A full-size chest film has 9–19 million pixels and 20–40 MB."""

    max_pixels: int = 40_000_000
    """Rows × Columns × Frames."""
    max_bytes: int = 256 * 2**20
    """Bytes of the file, of the decoded pixels, and of anything that is inflated."""
    max_header_bytes: int = 32 * 2**20
    """Bytes of a DICOM file before its pixels."""
    max_elements: int = 20_000
    """Data elements and items of a DICOM file, nested ones counted."""
    max_depth: int = 32
    """Sequences nested in one another."""

    def check_file(self, size: int) -> None:
        """Refuse an empty or a huge file.

        Raises:
            FilmError: code "empty" or "too-large".
        """
        if size == 0:
            raise FilmError("The file is empty (0 bytes). Send it again.", code="empty")
        if size > self.max_bytes:
            raise FilmError(
                f"The file has {size:,} bytes, more than the {self.max_bytes:,} allowed. Check that it is a film, "
                "and export it smaller.",
                code="too-large",
            )

    def check_pixels(self, rows: int, columns: int, frames: int, bytes_per_pixel: int) -> None:
        """Refuse pixels that would not fit, before they are decoded.

        Raises:
            FilmError: code "unreadable" for a size that is not positive, "too-large" for one beyond the limits.
        """
        if rows < 1 or columns < 1 or frames < 1:
            raise FilmError(
                f"Rows × Columns × Number of Frames is {rows} × {columns} × {frames}; each must be at least 1. "
                "Export the film again.",
                code="unreadable",
            )
        pixels = rows * columns * frames
        if pixels > self.max_pixels or pixels * bytes_per_pixel > self.max_bytes:
            raise FilmError(
                f"The picture has {rows} × {columns} × {frames} = {pixels:,} pixels of {bytes_per_pixel} bytes, more "
                f"than the {self.max_pixels:,} pixels and {self.max_bytes:,} bytes allowed. Check that it is a film, "
                "and export it smaller.",
                code="too-large",
            )
