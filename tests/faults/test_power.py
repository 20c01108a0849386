"""The power goes at every instant of a save: what was acknowledged is there in each state of the
disk that may come of it."""

import contextlib
import itertools
import os
import shutil

import bare
import disk
import pytest
from server import check

from neuron.checkpoint import files
from neuron.errors import CheckpointError


def recorded(monkeypatch, root, lives=(None,)):
    """The calls of processes that save, one after the other; each ends at a call, or by itself."""
    with monkeypatch.context() as patch:
        recorder = disk.Recorder(root)
        recorder.install(patch)
        for life, dies_at in enumerate(lives):
            recorder.calls, recorder.dies_at = 0, dies_at
            with contextlib.suppress(disk.Dead):
                bare.save_all(root / "runs" / "first", recorder.acknowledge, bare.LAST + life)
    return recorder


def bad_of(images, folder):
    """How many images were looked at, and what is wrong in which."""
    bad, count = [], 0
    for last, image in images:
        count += 1
        disk.make(image, folder / "image")
        try:
            check(folder / "image" / "runs" / "first", last)
        except (AssertionError, CheckpointError, Warning) as error:
            bad.append(error)
        shutil.rmtree(folder / "image")
    return count, bad


def all_images(ops, block=None):
    for end in range(len(ops) + 1):
        last = disk.acknowledged(ops[:end])
        for image in disk.images(ops[:end], block):
            yield last, image


def test_power_lost_at_each_instant(monkeypatch, folder, soak):
    (folder / "disk").mkdir()
    ops = recorded(monkeypatch, folder / "disk").ops
    count, bad = bad_of(all_images(ops, block=512), folder)
    assert count >= 500
    assert not bad, bad[0]
    soak.tell(f"{count} images of the disk, 0 bad")


def test_power_lost_after_a_kill(monkeypatch, folder, soak):
    # The first process leaves names that are not synced, and the second one builds upon them.
    (folder / "whole").mkdir()
    calls = recorded(monkeypatch, folder / "whole").calls
    every = range(1, calls + 1)
    count, bad = 0, []
    for dies_at in every:
        root = folder / f"disk {dies_at}"
        root.mkdir()
        recorder = recorded(monkeypatch, root, (dies_at, None))
        of_these = list(all_images(recorder.ops))
        chosen = soak.draws.sample(of_these, min(len(of_these), soak.number(12, len(of_these))))
        more, worse = bad_of(chosen, folder)
        count, bad = count + more, bad + worse
    assert not bad, (len(bad), bad[0])
    soak.tell(f"{count} images of the disk after {calls} kills, 0 bad")


# What a save may not leave out, each left out.
def _no_sync_of_the_file(patch):
    def write_all(path, content):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.write(file, content)
        os.close(file)

    patch.setattr(files, "_write_all", write_all)


def _no_sync_of_the_folder(patch):
    patch.setattr(files, "sync_folder", lambda folder: None)


def _no_file_beside(patch):
    patch.setattr(files, "temporary_for", lambda path: path)


@pytest.mark.parametrize("without", [_no_sync_of_the_file, _no_sync_of_the_folder, _no_file_beside])
def test_a_save_that_leaves_something_out_is_noticed(monkeypatch, folder, without):
    (folder / "disk").mkdir()
    with monkeypatch.context() as patch:
        without(patch)
        ops = recorded(monkeypatch, folder / "disk").ops
    first = itertools.islice(all_images(ops), 400)
    assert bad_of(first, folder)[1]
