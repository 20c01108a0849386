"""A directory of checkpoints: the newest one that is whole, and one process at a time."""

import contextlib
import errno
import os
import pathlib
import re
import threading
import warnings

from neuron.checkpoint.files import make_folder, read
from neuron.checkpoint.format import decode
from neuron.checkpoint.runs import Saved
from neuron.errors import CheckpointError


_NAME = re.compile(r"step-(\d+)\.safetensors")
_TEMPORARY = re.compile(r"\..+\.safetensors\.\d+\.tmp")
BEST = "best.safetensors"


class Directory:
    """Checkpoints by the step that they were made after: `step-000000005000.safetensors`."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)

    def file(self, step: int) -> pathlib.Path:
        """Where the checkpoint of a step is."""
        return self.path / f"step-{step:012d}.safetensors"

    def steps(self) -> list[int]:
        """Of which steps there are checkpoints, whole or not, the newest first.

        **Raises:**

        - `CheckpointError` where the directory can not be read.
        """
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(f"{self.path} could not be read: {error.strerror}.") from error
        found = (_NAME.fullmatch(name) for name in names)
        return sorted({int(match[1]) for match in found if match}, reverse=True)

    def newest(self, after: int = -1) -> Saved | None:
        """The checkpoint of the highest step whose digest is right. One that is not is skipped, and
        a warning names it.

        **Arguments:**

        - `after`: only those of later steps are looked at.
        """
        for step in self.steps():
            if step <= after:
                break
            try:
                return load_run(self.file(step))
            except CheckpointError as error:
                warnings.warn(f"A checkpoint was skipped: {error}", stacklevel=2)
        return None

    def prune(self, keep: int, step: int) -> None:
        """Removes all but the last so many checkpoints up to a step.

        **Raises:**

        - `CheckpointError` where the system refuses.
        """
        try:
            for old in [there for there in self.steps() if there <= step][keep:]:
                self.file(old).unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{error.filename} could not be removed: {error.strerror}."
            ) from error

    @contextlib.contextmanager
    def locked(self):
        """Holds the directory, which is made if need be, against other processes and other fits.

        The system lets go of it when the process ends, however it ends.

        **Raises:**

        - `CheckpointError` where somebody else has it, or it can not be made.
        """
        make_folder(self.path)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(_of_this_process(self.path.resolve()))
                held.enter_context(_of_the_system(self.path / ".lock"))
                self._clean()
            except OSError as error:
                raise CheckpointError(
                    f"{self.path} could not be locked: {error.strerror}."
                ) from error
            yield

    def _clean(self) -> None:
        """Removes what a process left that was ended while it wrote."""
        for file in self.path.iterdir():
            if _TEMPORARY.fullmatch(file.name):
                with contextlib.suppress(OSError):
                    file.unlink()


def found(call: str, path: str | os.PathLike[str]) -> Saved:
    """The run in a file, or the newest one in a directory.

    **Raises:**

    - `CheckpointError` where there is none.
    """
    path = pathlib.Path(path)
    if not os.path.isdir(path):
        return load_run(path)
    saved = Directory(path).newest()
    if saved is None:
        raise CheckpointError(f"`{call}` must lead to a checkpoint; there is none in {path}.")
    return saved


def newest(call: str, path: str | os.PathLike[str], step: int) -> Saved | None:
    """The newest run in a directory, if there is one of that step or a later one.

    **Raises:**

    - `TypeError` for what is no path, `CheckpointError` for the path of a file.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`{call}` must be the path of a directory; got {path!r}.")
    directory = Directory(path)
    if os.path.exists(directory.path) and not os.path.isdir(directory.path):
        raise CheckpointError(
            f"`{call}` must be a directory; got the file {path}. Use `trainer.restore(path)`."
        )
    return directory.newest(after=step - 1)


def load_run(path: pathlib.Path) -> Saved:
    """A run in a file.

    **Raises:**

    - `CheckpointError` for what is none.
    """
    arrays, facts = decode(read(path), str(path))
    if facts.get("kind") != "run":
        raise CheckpointError(f"{path} must be a checkpoint of a run; it holds a model alone.")
    return Saved(str(path), arrays, facts)


_held: set[pathlib.Path] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def _of_this_process(path: pathlib.Path):
    # The system's lock does not hold within one process.
    with _guard:
        if path in _held:
            raise CheckpointError(f"{path} is in use by another fit of this process.")
        _held.add(path)
    try:
        yield
    finally:
        with _guard:
            _held.discard(path)


@contextlib.contextmanager
def _of_the_system(path: pathlib.Path):
    import fcntl

    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            # Not `flock`: a worker of this process that lives on would hold that.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Other errors are of systems that have no locks.
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise CheckpointError(f"{path.parent} is in use by another process.") from error
        yield
    finally:
        # It is closed and let go of even where the system complains.
        with contextlib.suppress(OSError):
            os.close(file)
