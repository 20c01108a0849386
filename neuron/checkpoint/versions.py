"""Versions of what made a file."""

import functools
import importlib.metadata
import platform


_PACKAGES = ("neuron-equinox", "jax", "jaxlib", "equinox", "numpy", "safetensors")


@functools.cache
def versions() -> dict[str, str]:
    """By package; none for one that is there without being installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
