"""What all builders share: every clip is processed once, whatever interrupts it, then TFDS writes.

First all clips become files of a `ClipStore` next to the data set, spread over the processes of
this machine or over Apache Beam; then TFDS shuffles and shards their examples; last the store is
removed. Killed at any instant, a second run goes on from there. All ours; the bytes of the shards
depend on the clips alone, not on who processed them and when.
"""

import contextlib
import csv
import errno
import functools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

import flax_talk
from flax_talk.errors import UserError
from input_pipeline.datasets.clips import StorageError, ignore, process_clips
from input_pipeline.datasets.store import ClipStore, keep, keep_outcome

Examples = list[dict[str, Any]]

Runner = Callable[[Sequence[Any], Callable[[Any], None], Path], None]
"""Calls a function for each of many clips, anywhere; the path is of a folder for its own files."""

_FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))


class ClipBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builder of clips, written as array_record and read back without TensorFlow.

    `info.metadata` holds, once prepared, the number of frames and of the clips that were used.
    A subclass defines `clips`, `read_examples` and `_info`.

    Args:
        source: folder of the corpus; needed to prepare, not to read.
        jobs: processes that prepare clips; the files written do not depend on it.
        progress: called with the number of clips done since its last call.
        runner: does the clips in the place of those processes, such as on Apache Beam.

    `failures` lists the (id, reason) of clips that could not be used, once prepared; they are in
    the file `report_path` too, columns id and reason.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        source: str | Path | None = None,
        jobs: int = 1,
        progress: Callable[[int], object] = ignore,
        runner: Runner | None = None,
        **kwargs: Any,
    ) -> None:
        self.source = source
        self.jobs = jobs
        self.progress = progress
        self.runner = runner
        self.failures: list[tuple[str, str]] = []
        super().__init__(file_format="array_record", **kwargs)

    @property
    def clips(self) -> Mapping[str, Sequence[Any]]:
        """The clips by split: dataclasses with an id, in order."""
        raise NotImplementedError

    @property
    def read_examples(self) -> Callable[[Any], Examples]:
        """The examples of a clip, each with an id; other processes unpickle it."""
        raise NotImplementedError

    @property
    def report_path(self) -> Path:
        """The list of clips that could not be used."""
        return Path(self.data_path.parent, "report.csv")

    @property
    def unfinished_path(self) -> Path:
        """The folder of what is done of a data set that is not finished."""
        return Path(self.data_path.parent, f"unfinished_{self.version}")

    @functools.cached_property
    def pending(self) -> list[Any]:
        """The clips that no run has processed yet."""
        return [
            clip for part in self.clips.values() for clip in part if not self._store.is_done(clip)
        ]

    def settings(self) -> str:
        """What an example depends on besides its clip."""
        return f"{self.name} {self.version} {flax_talk.__version__}"

    def download_and_prepare(self, **kwargs: Any) -> None:
        """As in TFDS; goes on with what an interrupted run has left, which is removed at the end.

        Raises:
            UserError: also where the disk is full, or the same data set is being prepared.
        """
        if not self.data_path.exists():
            with _locked(self.unfinished_path):
                self._remove_halves()
                try:
                    super().download_and_prepare(**kwargs)
                except (OSError, RuntimeError) as error:  # array_record raises the latter
                    if not (reason := next((text for text in _FULL if text in str(error)), None)):
                        raise
                    raise StorageError(
                        f"{self.data_path} cannot be written ({reason}): make room and run again, "
                        "what is done is kept"
                    ) from error
        shutil.rmtree(self.unfinished_path, ignore_errors=True)

    def _example_writer(self) -> ExampleWriter:
        return _SteadyWriter(self.info.file_format)

    def _remove_halves(self) -> None:
        # What TFDS was writing when it was killed.
        for path in Path(self.data_path.parent).glob(f"incomplete.*_{self.version}"):
            shutil.rmtree(path)

    @functools.cached_property
    def _store(self) -> ClipStore:
        return ClipStore(self.unfinished_path, self.settings())

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        self._process_pending()
        if lost := [
            c.id for part in self.clips.values() for c in part if not self._store.is_done(c)
        ]:
            raise UserError(
                f"{len(lost)} clips were not done, such as {lost[0]}: are they being changed, or "
                f"does a worker not see {self.unfinished_path}?"
            )
        splits = {}
        for split, clips in self.clips.items():
            usable = [clip for clip in clips if self._store.is_usable(clip)]
            refused = [clip for clip in clips if not self._store.is_usable(clip)]
            self.failures += [(clip.id, self._store.reason(clip)) for clip in refused]
            if usable:  # TFDS cannot write an empty split
                splits[split] = self._generate_examples(usable)
        if not splits:
            clip_id, reason = self.failures[0]
            raise UserError(f"no usable clip in {self.source}: {clip_id}: {reason}")
        write_report(self.report_path, sorted(self.failures))
        return splits

    def _process_pending(self) -> None:
        work = {"process": self.read_examples, "store": self._store}
        if self.runner:
            if self.pending:
                self.runner(
                    self.pending, functools.partial(keep_outcome, **work), self.unfinished_path
                )
            return
        process = functools.partial(keep, **work)
        for clip, result in process_clips(self.pending, process, self.jobs, self.progress):
            if isinstance(result, str):
                self._store.save_reason(clip, result)

    def _generate_examples(self, clips: Sequence[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        metadata = self.info.metadata
        for clip in clips:
            metadata["clips"] = metadata.get("clips", 0) + 1
            for example in self._store.examples(clip):
                metadata["frames"] = metadata.get("frames", 0) + len(example["video"])
                yield example["id"], example


class _SteadyWriter(ExampleWriter):
    """Writes the same examples as the same bytes, which TFDS does within one process only.

    A protocol buffer's map, which the features of an example are, is written in an order of chance.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        return super().write(path, ((key, _in_order(record)) for key, record in examples))


def _in_order(record: bytes) -> bytes:
    return tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps other processes out; the lock dies with its owner."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: the data set is being prepared by another process: wait for it"
            ) from error
        yield


def read_report(path: Path) -> tuple[tuple[str, str], ...]:
    """The (id, reason) of the clips that could not be used, from a report.csv."""
    if not path.exists():  # removed by hand: the data set is whole without it
        return ()
    with path.open(newline="") as file:
        return tuple((row["id"], row["reason"]) for row in csv.DictReader(file))


def write_report(path: Path, failures: list[tuple[str, str]]) -> None:
    """Writes a report.csv of the (id, reason) of clips that could not be used."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "reason"), *failures])
    os.replace(partial, path)
