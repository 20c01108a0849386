"""Prefetching: a background thread takes an iterator's items, a few ahead of whoever uses them."""

import contextlib
import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import jax


# How long to wait for a reader that is to end. It may be stuck in code that is not ours.
_PATIENCE = 10.0
# And how long where the run was interrupted.
_HURRY = 0.2
_END = object()


class Prefetched(Iterator[Any]):
    """The items of a generator, made in a background thread, at most two of them ahead.

    An error in the generator is raised, as it is, where its item was to come. The generator is
    closed in its thread.
    """

    def __init__(
        self,
        items: Generator[Any, None, None],
        *,
        then: Callable[[], None] = lambda: None,
        meanwhile: Callable[[], None] = lambda: None,
    ):
        """**Arguments:**

        - `items`: what is made ahead.
        - `then`: called once the thread has ended, or is left behind.
        - `meanwhile`: called ten times a second while an item is waited for.
        """
        self._items, self._then, self._meanwhile = items, then, meanwhile
        # The thread holds one more in its hand.
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._closing, self._closed = threading.Event(), False
        settings = _settings()
        self._thread = threading.Thread(
            target=lambda: self._read(settings), name="neuron-reader", daemon=True
        )
        self._thread.start()

    def __next__(self) -> Any:
        return self.next(self._meanwhile)

    def next(self, meanwhile: Callable[[], None]) -> Any:
        """The next item; while it is not there, `meanwhile` is called ten times a second."""
        while True:
            try:
                item = self._ready.get(timeout=0.1)
            except queue.Empty:
                if self._closed:
                    raise StopIteration from None
                meanwhile()
                continue
            if item is _END:
                self.close()
                raise StopIteration
            if isinstance(item, _Raised):
                self.close()
                raise item.error
            return item

    def __enter__(self) -> "Prefetched":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(hurry=is_interrupt(kind))

    def close(self, *, hurry: bool = False) -> None:
        """Ends the thread, warning where it does not end, and lets go of what it read from.

        **Arguments:**

        - `hurry`: leaves one that is stuck behind at once.
        """
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        patience = _HURRY if hurry else _PATIENCE
        self._thread.join(patience)
        # Where warnings are errors, this one must not hide the interrupt.
        with contextlib.suppress(*[Warning] if hurry else []):
            if self._thread.is_alive():
                warnings.warn(
                    f"The thread that reads the data has not ended within {patience:g} s; it is "
                    "left behind, waiting for its source.",
                    stacklevel=2,
                )
        self._then()

    def _read(self, settings: list[AbstractContextManager[Any]]) -> None:
        last: Any = _END
        try:
            with contextlib.ExitStack() as stack:
                for setting in settings:
                    stack.enter_context(setting)
                for item in self._items:
                    if not self._hand_over(item):
                        break
        except BaseException as error:
            last = _Raised(error)
        finally:
            with contextlib.suppress(Exception):
                self._items.close()
            self._hand_over(last)

    def _hand_over(self, item: Any) -> bool:
        while not self._closing.is_set():
            try:
                self._ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False


def is_interrupt(kind: type[BaseException] | None) -> bool:
    """Whether what ends a block is no error of the program, but somebody who wants it to end."""
    return kind is not None and not issubclass(kind, Exception)


def _settings() -> list[AbstractContextManager[Any]]:
    """Those of JAX's settings that decide types and random draws, as they are in this thread, to be
    entered in another one: `with jax.enable_x64(True)` holds in its own alone."""
    now = jax.config
    return [
        jax.enable_x64(now.jax_enable_x64),  # pyright: ignore[reportAttributeAccessIssue]
        jax.threefry_partitionable(now.jax_threefry_partitionable),  # pyright: ignore[reportAttributeAccessIssue]
        jax.default_prng_impl(now.jax_default_prng_impl),  # pyright: ignore[reportAttributeAccessIssue]
    ]


class _Raised:
    def __init__(self, error: BaseException):
        self.error = error
