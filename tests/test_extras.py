"""Libraries that not everybody needs: found, or missing in words that say how to get them."""

import json
import sys

import pytest

import neuron
from neuron.extras import extra


def test_the_modules_are_handed_over():
    assert extra("`call` needs json", "json", "json") is json
    assert extra("`call` needs both", "both", "json", "sys") == [json, sys]


def test_what_is_missing_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    history = neuron.History()
    with pytest.raises(ImportError) as caught:
        history.plot()
    text = "`History.plot()` draws with matplotlib; install `neuron-equinox[plot]`."
    assert str(caught.value) == text
    assert isinstance(caught.value.__cause__, ImportError)
