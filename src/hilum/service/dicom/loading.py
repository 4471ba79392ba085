"""pydicom and pynetdicom, imported by one thread before others use them.

Their modules import each other in circles. Two threads that begin at the same instant, such as a sender of results and
the one who looks for priors, can each hold a module that the other waits for; Python then gives out one that is half
made, one import fails, and nothing of it works in this process any more: no result is sent until somebody restarts it.
"""

import importlib

MODULES = (
    "pydicom",
    "pydicom.encaps",
    "pydicom.filebase",
    "pynetdicom.presentation",
    "pynetdicom.dsutils",
    "hilum.service.dicom.calling",
)
"""What threads of the service import of them, whole packages included."""


def load() -> None:
    """Import them; nothing happens where they are there."""
    for name in MODULES:
        importlib.import_module(name)
