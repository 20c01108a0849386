"""Extras. Libraries that not everybody needs, imported where they are used."""

import importlib
from typing import Any


def extra(does: str, name: str, *modules: str) -> Any:
    """The modules, or the one module, that an extra brings.

    **Arguments:**

    - `does`: which call does what with them, for the error.
    - `name`: of the extra, as in `neuron-equinox[plot]`.

    **Raises:**

    - `ImportError` that names the extra.
    """
    try:
        found = [importlib.import_module(module) for module in modules]
    except ImportError as error:
        raise ImportError(f"{does}; install `neuron-equinox[{name}]`.") from error
    return found if len(found) > 1 else found[0]
