"""Files that are damaged in ways that files are, and what reads them, in a process of its own.

`Reader` reads one mutation after the other in a child whose memory is limited; the parent waits for
each and starts another child where one crashes, hangs or works for too long.
"""

import contextlib
import multiprocessing
import resource
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np

LIMIT_BYTES = 6 * 2**30  # of address space: libraries alone map two of them
LIMIT_CPU_SECONDS = 30
LIMIT_SECONDS = 600.0  # of waiting, on a machine that may be busy


def mutate(content: bytes, seed: int) -> bytes:
    """One to three damages: flipped bits, lost ends, holes, pieces that move or come twice, and
    large numbers where sizes and times may be."""
    random = np.random.default_rng(seed)
    data = bytearray(content)
    for _ in range(random.integers(1, 4)):
        if not data:
            break
        # Headers are small and matter most.
        size = len(data) if random.random() < 0.5 else min(len(data), 600)
        at, length = int(random.integers(size)), int(random.integers(1, 200))
        kind = random.integers(7)
        if kind == 0:
            for place in random.integers(0, size, random.integers(1, 12)):
                data[place] ^= 1 << random.integers(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + length] = bytes(min(length, len(data) - at))
        elif kind == 3:
            data[at : at + length] = random.bytes(min(length, len(data) - at))
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            data[at:at] = data[at : at + length]
        else:
            size = int(random.choice([2, 4, 8]))
            data[at : at + size] = random.choice([b"\xff", b"\x7f", b"\x80", b"\0"]) * size
    return bytes(data)


class Outcome(NamedTuple):
    """`said`: "read", the line of a UserError, or what should not have happened; seconds of CPU."""

    said: str
    is_right: bool
    seconds: float


def read(path: Path) -> None:
    """As the library reads a file of that ending."""
    from flax_talk.errors import UserError
    from flax_talk.interop.array_files import read_hdf5, read_npz
    from flax_talk.interop.torch_files import read_torch
    from input_pipeline import media

    if path.suffix in (".jpg", ".png", ".gif", ".tiff", ".webp"):
        assert media.read_still(path).dtype == np.uint8
    elif path.suffix == ".npz":
        read_npz(path)
    elif path.suffix == ".pth":
        read_torch(path)
    elif path.suffix == ".h5":
        read_hdf5(path, lambda name, rank: name)
    else:
        refusals = []
        for function in (
            lambda: media.read_video(path, max_frames=400).frames,
            lambda: media.read_audio(path, 16_000),
        ):
            try:
                assert np.isfinite(function()[:100]).all()
            except UserError as error:
                refusals.append(error)
        if len(refusals) == 2:
            raise refusals[0]


def _serve(connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    from flax_talk.errors import UserError

    while True:
        path = connection.recv()
        begun = time.process_time()
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(begun) + LIMIT_CPU_SECONDS, most))
        try:
            read(path)
            outcome = "read", True
        except UserError as error:
            outcome = str(error), "\n" not in str(error)
        except BaseException:
            outcome = traceback.format_exc(), False
        connection.send((*outcome, time.process_time() - begun, _peak()))


def _peak() -> int:
    """The most memory that this program had, in bytes; getrusage counts its parent's too."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return 1024 * int(fields["VmHWM"].split()[0])


class Reader:
    """Reads files in a child process; `peak` is the most memory that one had, in bytes."""

    def __init__(self):
        self.peak = 0
        self._child = None

    def __call__(self, path: Path) -> Outcome:
        if self._child is None:
            context = multiprocessing.get_context("spawn")
            self._connection, other = context.Pipe()
            self._child = context.Process(target=_serve, args=(other,), daemon=True)
            self._child.start()
            other.close()
        with contextlib.suppress(EOFError, BrokenPipeError):
            self._connection.send(path)
            if self._connection.poll(LIMIT_SECONDS):
                said, is_right, seconds, peak = self._connection.recv()
                self.peak = max(self.peak, peak)
                return Outcome(said, is_right, seconds)
        self._child.join(1)
        said = f"exit code {self._child.exitcode}" if self._child.exitcode else "hangs"
        self.close()
        return Outcome(said, False, LIMIT_SECONDS)

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._child = None
