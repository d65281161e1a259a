"""Outcomes of clips on disk, so that what is done is not done again. All ours.

While a data set is prepared, each clip has a file of its own with its examples, or with the reason
why it cannot be used. A file appears complete or not at all, so that a run may end at any instant,
and its name depends on all that the outcome depends on, so that a mended clip is done anew. Any
process that sees the folder can add to it, on this machine or another.
"""

import dataclasses
import hashlib
import os
import pickle
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from input_pipeline.datasets.clips import Process, StorageError, attempt

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ClipStore:
    """Outcomes of clips that were processed with the same settings.

    folder holds the files, and is made when the first one is saved. settings is a text of what an
    outcome depends on besides the clip. A clip is a dataclass; of its paths the size and the time
    of the last change count, so that another file in their place is another clip.
    """

    folder: Path
    settings: str

    def is_done(self, clip: Any) -> bool:
        """Whether the clip has an outcome."""
        stem = self._stem(clip)
        return any(_file(stem, kind).exists() for kind in ("examples", "reason"))

    def is_usable(self, clip: Any) -> bool:
        """Whether the clip has examples."""
        return _file(self._stem(clip), "examples").exists()

    def examples(self, clip: Any) -> list[dict[str, Any]]:
        """The examples of a usable clip."""
        return pickle.loads(_file(self._stem(clip), "examples").read_bytes())

    def reason(self, clip: Any) -> str:
        """Why a clip that is done is not usable."""
        return _file(self._stem(clip), "reason").read_text()

    def save_examples(self, clip: Any, examples: Sequence[dict[str, Any]]) -> None:
        """Saves what a clip has become; StorageError where it cannot be written."""
        _write(_file(self._stem(clip), "examples"), pickle.dumps(examples, protocol=5))

    def save_reason(self, clip: Any, reason: str) -> None:
        """Saves why a clip cannot be used; StorageError where that cannot be written."""
        _write(_file(self._stem(clip), "reason"), reason.encode())

    def _stem(self, clip: Any) -> Path:
        values = [_identity(getattr(clip, field.name)) for field in dataclasses.fields(clip)]
        text = f"{_FORMAT} {self.settings} {values}"
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self.folder / name[:2] / name  # large corpora would make one folder slow


def keep(clip: Any, process: Process, store: ClipStore) -> dict[str, Any]:
    """Processes a clip and saves its examples: a function of a clip for `process_clips`."""
    store.save_examples(clip, process(clip))
    return {}


def keep_outcome(clip: Any, process: Process, store: ClipStore) -> None:
    """Processes a clip and saves its examples, or the reason why there are none."""
    result = attempt(process, clip)
    if isinstance(result, str):
        store.save_reason(clip, result)
    else:
        store.save_examples(clip, result)


def _file(stem: Path, kind: str) -> Path:
    return stem.with_suffix(f".{kind}")


def _identity(value: Any) -> str:
    if not isinstance(value, Path):
        return repr(value)
    try:
        status = value.stat()
    except OSError:
        return f"{value.name} absent"
    return f"{value.name} {status.st_size} {status.st_mtime_ns}"


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path.parent} cannot be written ({error.strerror}): make room and run again, what is "
            "done is kept"
        ) from error
