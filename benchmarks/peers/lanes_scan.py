"""JAX by hand, for one neuron: members along the vector's lanes, no products of matrices, gradients
written out. What a machine can do at best."""

import jax
import jax.numpy as jnp
from many import Many, sized
from peers.jax_scan import small_loop_kernel
from tasks import Fit


def fit(many: Many) -> Fit:
    return sized(_build, many)


def _build(many: Many) -> Fit:
    (weight, bias), indices = many.layers[0], jnp.asarray(many.indices)
    first = jnp.asarray([*weight[:, 0].T, bias[:, 0]])
    columns = [jnp.asarray(c) for c in (*many.task.inputs.T, many.task.targets)]
    counts = None if many.counts is None else jnp.asarray(many.counts.T, jnp.float32)
    # A few members fill no lanes: then the rows do. Each is the quicker one where it is taken.
    sums = _of_all_rows if many.members <= 10 else _row_by_row

    def train(w, indices, columns, counts):
        def step(w, rows):
            total, squares, *slopes = sums(w, rows, columns, counts)
            root = jnp.sqrt(squares / total)
            return w - many.task.learning_rate * jnp.stack(slopes) / (total * root), root

        return jax.lax.scan(step, w, indices)

    # Where XLA cuts an operation of a step for several threads, the kernel does not compile.
    large = many.own_batches and many.members >= 1000
    program = jax.jit(train) if large else small_loop_kernel(train)
    return Fit(
        start=lambda: first,
        run=lambda w: jax.block_until_ready(program(w, indices, columns, counts)),
        weights=lambda result: [result[0][:2].T, result[0][2]],
        steps=many.steps,
        note="without the kernel" if large else "members along the lanes; small-loop kernel",
        members=many.members,
    )


def _of_all_rows(w, rows, columns, counts):
    """The sums over a batch that a step needs, from (rows, members) at once."""
    often = 1.0 if counts is None else counts[rows]
    a, b, target = (column[rows[:, None] if rows.ndim == 1 else rows.T] for column in columns)
    residual = a * w[0] + b * w[1] + w[2] - target
    r = often * residual
    total = jnp.broadcast_to(often, r.shape)
    return [s.sum(axis=0) for s in (total, r * residual, r * a, r * b, r)]


def _row_by_row(w, rows, columns, counts):
    rows = rows if rows.ndim == 1 else rows.T

    def add(place, sums):
        row = rows[place]
        often = 1.0 if counts is None else counts[row]
        a, b, target = (column[row] for column in columns)
        residual = a * w[0] + b * w[1] + w[2] - target
        r = often * residual
        return [
            s + term for s, term in zip(sums, (often, r * residual, r * a, r * b, r), strict=True)
        ]

    return jax.lax.fori_loop(0, len(rows), add, [jnp.zeros_like(w[0])] * 5)
