"""What lies where in ``runs/<name>/``: one value that knows every path, and reads and writes the small JSON files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.errors import RunError
from hilum.files import write_json


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        root: the run's folder, such as ``runs/chest``.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The run's config, written first; another config in the same folder is refused."""
        return self.root / "config.json"

    @property
    def manifest(self) -> Path:
        """A copy of the split that was trained on."""
        return self.root / "split.parquet"

    @property
    def environment(self) -> Path:
        """Packages, commit, hardware, seeds, data fingerprint."""
        return self.root / "environment.json"

    @property
    def result(self) -> Path:
        """What was measured; written last, so its presence means that training is done."""
        return self.root / "result.json"

    @property
    def metrics(self) -> Path:
        """One JSON line for each epoch of each member and stage."""
        return self.root / "metrics.jsonl"

    @property
    def out_of_fold(self) -> Path:
        """Predictions for the fit part, each film by the member that did not train on it."""
        return self.root / "out_of_fold.parquet"

    @property
    def validation(self) -> Path:
        """The same predictions with every kind of doubt; written when a run is first evaluated or packaged."""
        return self.root / "validation.parquet"

    @property
    def openings(self) -> Path:
        """One JSON line for each time the locked test share was looked at."""
        return self.root / "test_openings.jsonl"

    def member(self, number: int) -> Path:
        """Folder of a member: checkpoints and weights. Members are numbered fold by fold, seed after seed."""
        return self.root / "members" / f"fold{number}"

    def weights(self, number: int) -> Path:
        """A member's final weights."""
        return self.member(number) / "classifier.safetensors"

    def evaluation(self, name: str) -> Path:
        """Folder of one evaluation: predictions, report, figures."""
        return self.root / "evaluation" / name

    def read(self, path: Path) -> Any:
        """Read one of the run's JSON files.

        Raises:
            RunError: the file is not there or is damaged, or the run's folder is a file.
        """
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            mend = "Run hilum train with the same command to finish it, or name another folder."
            raise RunError(f"{self.root} holds no finished run: {path.name} is missing. {mend}") from None
        except NotADirectoryError:
            mend = "Name the folder that hilum train wrote (its --out)."
            raise RunError(f"{self.root} is a file, and a run is a folder. {mend}") from None
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}). Restore it, or train into another folder.") from None

    def claim(self, config: dict[str, Any]) -> bool:
        """Make the folder this config's own.

        Args:
            config: the run's config as plain values.

        Returns:
            True when the run is finished already.

        Raises:
            RunError: the folder holds a run of another config; the message names what differs.
        """
        if self.config.exists():
            there = self.read(self.config)
            if there != config:
                differs = _differing(there, config)
                raise RunError(
                    f"{self.root} holds a run of another config (other {', '.join(differs)}). "
                    "Choose another --out, or remove the folder."
                )
            return self.result.exists()
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.config, config)
        return False


def _differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Dotted names of the values in which two configs differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in sorted({*one, *other})
            for found in _differing(one.get(key), other.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if one == other else [name.removeprefix("config.")]
