"""How much memory the largest PNG and JPEG that are read take: the least with which a decoding child reads them.

Pictures of 40 million pixels (`hilum.imaging.limits`), in grey, in 16 bits and in colour, progressive with all
coefficients of all channels, and lying on their side.

    python benchmarks/memory_of_pictures.py --step 128
"""

import argparse
import io

import numpy as np
from PIL import Image

from hilum.errors import FilmError
from hilum.imaging.intended_use import GatePolicy
from hilum.imaging.limits import Limits
from hilum.imaging.preprocessing import Preprocessing
from hilum.imaging.sandbox import Sandbox
from hilum.inference.preparing import prepare_film
from hilum.service.bundled import PRELOAD


def pictures(side: int) -> dict[str, bytes]:
    """Encoded, by what they are."""
    some = np.random.default_rng(0).integers(100, 140, 1 << 20).astype(np.uint8)
    grey = np.resize(some, (side, side))
    colour = np.repeat(grey[..., None], 3, axis=2)
    turned = Image.Exif()
    turned[0x0112] = 6
    whole = {"progressive": True, "subsampling": 0, "quality": 90}
    forms = {
        "JPEG": (grey, "JPEG", {}),
        "JPEG, progressive": (grey, "JPEG", {"progressive": True}),
        "PNG": (grey, "PNG", {"compress_level": 1}),
        "PNG, 16 bits": (grey.astype(np.uint16) * 100, "PNG", {"compress_level": 1}),
        "JPEG, colour": (colour, "JPEG", {}),
        "JPEG, colour, progressive": (colour, "JPEG", whole),
        "JPEG, colour, progressive, turned": (colour, "JPEG", {**whole, "exif": turned.tobytes()}),
        "PNG, colour": (colour, "PNG", {"compress_level": 1}),
    }
    found = {}
    for name, (pixels, kind, options) in forms.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=128, help="MiB from one try to the next")
    step = parser.parse_args().step
    left = pictures(int(Limits().max_pixels ** 0.5))
    memory = step
    while left:
        memory += step
        with Sandbox(1, memory_mb=memory, cpu_s=60.0, wall_s=120.0, preload=PRELOAD) as sandbox:
            for name, content in list(left.items()):
                try:
                    sandbox.run(prepare_film, content, Preprocessing(size=224), GatePolicy())
                except FilmError as error:
                    if error.code != "out-of-memory":
                        raise
                else:
                    print(f"{name}: {memory} MiB", flush=True)
                    del left[name]


if __name__ == "__main__":
    main()
