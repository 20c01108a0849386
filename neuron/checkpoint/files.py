"""Files. Bytes that are written whole or not at all, and read from regular files only.

This file and `format.py` need no JAX, so that tests can end a process at each system call.
"""

import contextlib
import os
import pathlib
import stat

from neuron.errors import CheckpointError


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file; once this returns, it is on the disk, and a loss of power does not undo it.

    Whenever it is cut off, there is the file from before, whole, or the new one, whole.

    **Raises:**

    - `CheckpointError` where the system refuses; the file from before is still there.
    """
    temporary = temporary_for(path)
    try:
        try:
            _write_all(temporary, content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path} could not be written: {error.strerror}.") from error


def temporary_for(path: pathlib.Path) -> pathlib.Path:
    """Where a file lies while it is written: beside it, and of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _write_all(path: pathlib.Path, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: pathlib.Path) -> None:
    """Puts a folder's names on the disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def make_folder(folder: pathlib.Path) -> None:
    """Makes a folder, and those above it, where they are missing.

    **Raises:**

    - `CheckpointError` where the system refuses.
    """
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        there = next((one for one in (folder, *folder.parents) if one not in missing), folder)
        # A process that was ended may have made it without getting its name onto the disk.
        with contextlib.suppress(PermissionError):
            sync_folder(there.parent)
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
            sync_folder(one.parent)
        if not folder.is_dir():
            raise NotADirectoryError(0, "it is no directory")
    except OSError as error:
        raise CheckpointError(f"{folder} could not be made: {error.strerror}.") from error


def read(path: pathlib.Path) -> bytes:
    """What is in a file.

    **Raises:**

    - `CheckpointError` for what is no regular file, a link say, or can not be read.
    """
    try:
        # A pipe that nobody writes into would be waited for.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise CheckpointError(f"{path} must be a regular file.")
            with open(file, "rb", closefd=False) as content:
                return content.read()
        finally:
            os.close(file)
    except ValueError as error:
        raise CheckpointError(f"{path!r} is no path: {error}.") from error
    except MemoryError as error:
        raise CheckpointError(f"{path} is larger than the memory.") from error
    except OSError as error:
        link = os.path.islink(path)
        why = "it is a link, and must be a regular file" if link else error.strerror
        raise CheckpointError(f"{path} could not be read: {why}.") from error
