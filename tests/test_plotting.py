"""Plotting: axes, or which extra brings them."""

import sys

import pytest

from neuron.plotting import axes_for


def test_given_axes_are_used():
    axes = object()
    assert axes_for("plot()", axes) is axes


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(
        ImportError, match=r"`plot\(\)` draws with matplotlib.*neuron-equinox\[plot\]"
    ):
        axes_for("plot()", None)
