"""A file of lines that survives a kill: whole lines are appended, and a resume cuts it back."""

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Callable, Iterator
from typing import Any

from neuron.checkpoint import sync_folder


class LogFile:
    """A file of lines, one writer at a time.

    A line is handed to the system in one piece, so a killed process loses at most the line that it
    was writing. What it had begun of that is cut off by the next `open`.
    """

    _descriptor: int | None = None

    def __init__(self, call: str, path: str | os.PathLike[str], *, overwrite: bool):
        """**Arguments:**

        - `call`: whose file it is, for errors.
        - `overwrite`: whether a new run deletes the lines of an earlier one; they are moved aside
            otherwise.
        """
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise TypeError(f"`{call}(path)` must be a path; got {path!r}.")
        if not isinstance(overwrite, bool):
            raise TypeError(f"`{call}(overwrite=...)` must be True or False; got {overwrite!r}.")
        self.path = pathlib.Path(path)
        self._call = f"{call}({str(self.path)!r})"
        self._overwrite = overwrite

    def open(self, step: int, step_of: Callable[[str], int]) -> None:
        """Opens the file for a run at that step: lines of later steps are dropped. At step 0 an
        existing file is another run's, and is moved aside.

        **Arguments:**

        - `step_of`: the step of a line; called for the lines in their order. `ValueError` for what
            is no line of such a file.

        **Raises:**

        - `OSError` where the file can not be opened or somebody else writes to it, `ValueError` for
            a file of another kind.
        """
        # What is replaced is the file itself and no link to it.
        self._target = os.path.realpath(self.path)
        with self._naming():
            os.makedirs(os.path.dirname(self._target), exist_ok=True)
            self._descriptor = self._locked()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary())
            if step:
                self._cut(step, step_of)
            elif os.fstat(self._descriptor).st_size and self._overwrite:
                os.ftruncate(self._descriptor, 0)
            elif os.fstat(self._descriptor).st_size:
                os.rename(self._target, _free_name(self._target))
                self.close()
                self._descriptor = self._locked()

    def append(self, line: str) -> None:
        """Writes a line, which ends in a line break, whole or not at all."""
        with self._naming():
            descriptor = self._opened()
            end = os.fstat(descriptor).st_size
            left = line.encode()
            try:
                while left:
                    left = left[os.write(descriptor, left) :]
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, end)
                raise

    def rewrite(self, change: Callable[[Iterator[str]], Iterator[str]]) -> None:
        """Puts changed lines in the place of all that there are, at one instant: a process that is
        killed leaves the old lines or the new ones."""
        with self._naming():
            before, temporary = self._opened(), self._temporary()
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
            after = os.open(temporary, flags, stat.S_IMODE(os.fstat(before).st_mode))
            try:
                _lock(after)
                with _text(before, "r") as lines, _text(after, "a") as out:
                    out.writelines(change(iter(lines)))
                os.fsync(after)
                os.replace(temporary, self._target)
            except BaseException:
                os.close(after)
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            self._descriptor = after
            os.close(before)
            sync_folder(pathlib.Path(temporary).parent)

    def sync(self) -> None:
        """Waits until all lines are on the disk, where the file is open."""
        if self._descriptor is not None:
            with self._naming():
                os.fsync(self._descriptor)
                sync_folder(pathlib.Path(self._target).parent)

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def _temporary(self) -> str:
        """Where new lines are put together; what a killed process left there is nothing's."""
        folder, name = os.path.split(self._target)
        return os.path.join(folder, f".{name}.tmp")

    def _opened(self) -> int:
        """The descriptor, of a file that is still there."""
        if self._descriptor is None:
            raise OSError(errno.EBADF, "it is open while a fit runs only")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), os.stat(self._target)):
                return self._descriptor
        raise OSError(errno.ENOENT, "somebody has moved or deleted it during the fit")

    def _locked(self) -> int:
        """A descriptor of the file, that nobody else writes to."""
        while True:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
            descriptor = os.open(self._target, flags, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise OSError(errno.EINVAL, "it must be a regular file")
                _lock(descriptor)
                # Between the two calls somebody may have put another file there.
                if os.path.samestat(os.fstat(descriptor), os.stat(self._target)):
                    return descriptor
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _cut(self, step: int, step_of: Callable[[str], int]) -> None:
        """Cuts off a half line, and those from the first one on that is of a later step. The steps
        of a file never fall, so these are its end: it is shortened and not rewritten."""
        assert self._descriptor is not None
        kept, number = 0, 0
        with open(self._descriptor, "rb", closefd=False) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if not line.endswith(b"\n") or step_of(line.decode()) > step:
                        break
                except ValueError as error:
                    self.close()
                    raise ValueError(
                        f"`{self._call}` goes on with a file that it wrote itself; line {number} "
                        f"of this one is none of its: {error}."
                    ) from error
                kept += len(line)
        if kept < os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, kept)
            os.fsync(self._descriptor)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Errors of the system name the call and the file."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            # Makes the subclass that belongs to the number.
            raise OSError(
                error.errno, f"`{self._call}` can not write its file: {reason}"
            ) from error


def _lock(descriptor: int) -> None:
    """For this writer alone; the lock ends with its process. Some systems have no such locks, and
    some file systems of clusters: there nobody is kept out."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(error.errno, "another logger or another process is writing to it") from error
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise


def _text(descriptor: int, mode: str) -> Any:
    """The file behind a descriptor as text from its beginning, with line breaks as they are."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return open(descriptor, mode, encoding="utf-8", newline="", closefd=False)


def _free_name(path: str) -> str:
    """`log.1.csv` for `log.csv`, or the first number that no file has."""
    stem, suffix = os.path.splitext(path)
    number = 1
    while os.path.lexists(f"{stem}.{number}{suffix}"):
        number += 1
    return f"{stem}.{number}{suffix}"
