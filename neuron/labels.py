"""Labels. A model whose layers can be watched while they are called."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import PyTree

from neuron.selection import dotted


# Makes a layer's call, by its path and the name of its class, and returns what it returns.
Around = Callable[[str, str, Callable[[], Any]], Any]


def labeled(model: PyTree, around: Around) -> PyTree:
    """The same tree, but that `around` makes the calls of the layers below its root.

    What is called in another way than `layer(...)`, or kept in a static field, is not watched. A
    model may do with its layers what works for their exact classes alone, such as stack two of them
    into one: whoever calls this has the plain model to fall back on.
    """
    return _labeled(model, (), around)


@dataclasses.dataclass(frozen=True, eq=False)
class _Label:
    """Which layer it is. Compared by identity: JAX and Equinox remember what they have traced, and
    would skip a layer that looks like another one."""

    path: str
    layer: str
    around: Around


def _labeled(node: PyTree, path: tuple, around: Around) -> PyTree:
    if jtu.all_leaves([node]):
        return node
    children, treedef = jtu.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)
    children = [_labeled(child, (*path, *key), around) for key, child in children]
    node = jtu.tree_unflatten(treedef, children)
    is_layer = isinstance(node, eqx.Module) and callable(node)
    # `Shared` is no layer: what it returns are the layers inside it.
    if not path or not is_layer or isinstance(node, eqx.nn.Shared):
        return node
    layer = object.__new__(_labeled_class(type(node)))
    for name, value in vars(node).items():
        object.__setattr__(layer, name, value)
    label = _Label(dotted(path), type(node).__name__, around)
    object.__setattr__(layer, "_neuron_label", label)
    return layer


@functools.cache
def _labeled_class(kind: Any) -> Any:
    """A subclass whose calls are made by others. Equinox has no hooks, and a wrapper would hide a
    layer's attributes and class from its parent."""

    class Labeled(kind):
        # `None` on an instance that the model itself makes, by `type(layer)(...)`.
        _neuron_label: _Label | None = eqx.field(static=True, init=False, default=None)

        @functools.wraps(kind.__call__, updated=())
        def __call__(self, *args, **kwargs):
            call = functools.partial(kind.__call__, self, *args, **kwargs)
            label = self._neuron_label
            return call() if label is None else label.around(label.path, label.layer, call)

    Labeled.__name__, Labeled.__qualname__ = kind.__name__, kind.__qualname__
    return Labeled
