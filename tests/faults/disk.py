"""A disk that loses power: what a program does is recorded, and every state is made that a file
system may be in afterwards.

What was not synced may be there, or not: of a file's data nothing, all, a part, zeros or garbage;
of a folder's names any of the changes, in whatever order to each other and to the data. A sync of a
file is of its data, a sync of a folder of its names. A rename is done or is not. The method is that
of ALICE (Pillai et al., 2014) and of LevelDB's tests, the model stricter than common file systems.
"""

import dataclasses
import itertools
import os
import pathlib


class Dead(BaseException):
    """The process is gone: it makes no further calls."""


@dataclasses.dataclass(frozen=True)
class Op:
    """One call. `of` is the file or the folder that a sync of makes it last, by its number."""

    kind: str
    of: int = 0
    name: str = ""
    to: str = ""
    made: int = 0
    at: int = 0
    data: bytes = b""


class Recorder:
    """Stands before `os`, writes down what happens below a folder, and ends at a call if told so."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.ops = []
        self.calls = 0
        self.dies_at = None
        # Files and folders by number; those that a path or an open file leads to.
        self._numbers = itertools.count(1)
        self._of = {str(self.root): 0}
        self._opened = {}

    def acknowledge(self, text):
        self.ops.append(Op("acknowledged", name=text))

    def install(self, monkeypatch):
        for name in ("open", "write", "fsync", "close", "replace", "unlink", "mkdir"):
            monkeypatch.setattr(
                os, name, self._before(getattr(self, f"_{name}"), getattr(os, name))
            )

    def _before(self, act, real):
        def call(target, *arguments, **options):
            mine = target in self._opened or str(target).startswith(str(self.root))
            if not mine:
                return real(target, *arguments, **options)
            self.calls += 1
            if self.dies_at is not None and self.calls >= self.dies_at:
                raise Dead
            return act(real, target, *arguments, **options)

        return call

    def _place(self, path):
        path = pathlib.Path(path)
        return self._of[str(path.parent)], path.name

    def _open(self, real, path, flags, mode=0o777):
        there = os.path.lexists(path)
        file = real(path, flags, mode)
        if not there:
            self._of[str(path)] = made = next(self._numbers)
            folder, name = self._place(path)
            self.ops.append(Op("link", folder, name, made=made))
        elif flags & os.O_TRUNC:
            self.ops.append(Op("cut", self._of[str(path)]))
        self._opened[file] = [self._of[str(path)], 0]
        return file

    def _write(self, real, file, data):
        taken = real(file, data)
        number, at = self._opened[file]
        self.ops.append(Op("write", number, at=at, data=bytes(data[:taken])))
        self._opened[file][1] += taken
        return taken

    def _fsync(self, real, file):
        self.ops.append(Op("sync", self._opened[file][0]))

    def _close(self, real, file):
        del self._opened[file]
        real(file)

    def _replace(self, real, path, to):
        real(path, to)
        folder, name = self._place(path)
        self.ops.append(Op("rename", folder, name, to=pathlib.Path(to).name))
        self._of[str(to)] = self._of.pop(str(path))

    def _unlink(self, real, path):
        real(path)
        folder, name = self._place(path)
        self.ops.append(Op("unlink", folder, name))
        del self._of[str(path)]

    def _mkdir(self, real, path, mode=0o777):
        real(path, mode)
        self._of[str(path)] = made = next(self._numbers)
        folder, name = self._place(path)
        self.ops.append(Op("link", folder, name, made=made, data=b"folder"))


NAMES = {"link", "rename", "unlink"}
DATA = {"write", "cut"}


def acknowledged(ops):
    """The last steps that were said to be saved."""
    last = {"step": 0, "best": 0}
    for op in ops:
        if op.kind == "acknowledged":
            kind, step = op.name.split()
            last[kind] = int(step)
    return last


def images(ops, block=None, most=64):
    """The states that the disk may be in once these calls were made and the power is lost.

    Each is a nested dict of names, with bytes for a file. Of the sets of changes of names that may
    have got through, `most` are looked at, those that lack the earliest ones first. With
    the size of a block, each block of a file may be there or not by itself.
    """
    synced = {op.of: place for place, op in enumerate(ops) if op.kind == "sync"}
    lasts = lambda place, op: synced.get(op.of, -1) > place
    names = [(place, op) for place, op in enumerate(ops) if op.kind in NAMES]
    loose = [place for place, op in names if not lasts(place, op)]
    contents = _contents(ops, lasts, block)
    seen = set()
    for through in itertools.islice(itertools.product((False, True), repeat=len(loose)), most):
        lost = {place for place, kept in zip(loose, through, strict=True) if not kept}
        folders, kinds = {0: {}}, {}
        for place, op in names:
            if place not in lost:
                _change(folders.setdefault(op.of, {}), op, ops, place)
            if op.kind == "link":
                kinds[op.made] = op.data
        reached = [n for n in contents if any(n in f.values() for f in folders.values())]
        for versions in itertools.product(*(sorted(contents[n]) for n in reached)):
            image = _tree(0, folders, kinds, dict(zip(reached, versions, strict=True)))
            key = repr(image)
            if key not in seen:
                seen.add(key)
                yield image


def _change(names, op, ops, place):
    if op.kind == "link":
        names[op.name] = op.made
    elif op.kind == "unlink":
        names.pop(op.name, None)
    else:
        # The name that it had may have been lost; the file is known by its number all the same.
        names.pop(op.name, None)
        links = [o.made for o in ops[:place] if (o.kind, o.of, o.name) == ("link", op.of, op.name)]
        names[op.to] = links[-1]


def _contents(ops, lasts, block):
    """For each file that has ever been there, all that may be in it."""
    found = {}
    for place, op in enumerate(ops):
        if op.kind in DATA:
            found.setdefault(op.of, []).append((op, lasts(place, op)))
        elif op.kind == "link" and not op.data:
            found.setdefault(op.made, [])
    return {number: _versions(changes, block) for number, changes in found.items()}


def _versions(changes, block):
    whole = firm = b""
    for op, lasting in changes:
        whole = _applied(whole, op)
        firm = _applied(firm, op) if lasting else firm
    if whole == firm:
        return {whole}
    # Cut off anywhere; and each block of what is new as it should be, zeros or garbage.
    length, step = max(len(firm), len(whole)), max(1, len(whole) // 7)
    made = {firm, whole, whole[:-1], *(whole[:end] for end in range(0, len(whole), step))}
    blocks = [
        _kinds_of(firm, whole, at, block or length) for at in range(0, length, block or length)
    ]
    return made | {b"".join(chosen) for chosen in itertools.product(*blocks)}


def _kinds_of(firm, whole, at, block):
    new, old = whole[at : at + block], firm[at : at + block]
    return {new} if new == old else {new, bytes(len(new)), _garbage(len(new))}


def _garbage(length):
    return bytes((37 * place + 11) % 256 for place in range(length))


def _applied(content, op):
    if op.kind == "cut":
        return b""
    return content[: op.at].ljust(op.at, b"\0") + op.data + content[op.at + len(op.data) :]


def _tree(folder, folders, kinds, contents):
    return {
        name: _tree(n, folders, kinds, contents) if kinds[n] == b"folder" else contents[n]
        for name, n in sorted(folders.get(folder, {}).items())
    }


def make(image, folder):
    """Puts an image onto a real disk."""
    folder.mkdir()
    for name, content in image.items():
        if isinstance(content, dict):
            make(content, folder / name)
        else:
            (folder / name).write_bytes(content)
