"""What runs: the versions that a report of a fault begins with."""

import platform
import sqlite3
from importlib import metadata

import hilum
from hilum.bundle.reading import title_of
from hilum.errors import BundleError
from hilum.provenance import package_version
from hilum.service.settings import Settings


def versions(settings: Settings) -> dict[str, str]:
    """Versions by part: hilum, Python, what runs the model, what reaches the database, and the bundle; no secret.

    The bundle's digest is short (12 hex digits). What can't be read is said to be so: its reason follows elsewhere.
    """
    return {
        "hilum": hilum.__version__,
        "Python": platform.python_version(),
        "database": f"{_library(settings.url)}, SQLAlchemy {metadata.version('sqlalchemy')}",
        "runtime": _runtime(settings),
        "bundle": _bundle(settings),
    }


def _runtime(settings: Settings) -> str:
    package = "openvino" if settings.runtime == "openvino" else "onnxruntime"
    version = package_version(package)
    return f"{settings.runtime}, {f'{package} {version}' if version else f'{package} is not installed'}"


def _library(url: str) -> str:
    if url.startswith("sqlite"):
        return f"SQLite {sqlite3.sqlite_version}"
    try:
        from psycopg import __version__, pq
    except ImportError:
        return "psycopg is not installed"
    number = pq.version()  # 150014 for 15.14
    return f"psycopg {__version__}, libpq {number // 10000}.{number % 10000}"


def _bundle(settings: Settings) -> str:
    try:
        name, version, digest = title_of(settings.bundle)
    except (BundleError, OSError):
        return "can't be read"
    return f"{name} {version} ({digest[:12]})"
