"""One kernel: which steps are compiled whole, and that it changes no result."""

import types

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from helpers import tree_allclose

from neuron.kernel import as_one_kernel, fits_one_kernel, work


CPU = jax.devices("cpu")[0]
DATA, ROWS = jnp.ones((50, 3)), jnp.arange(8)


def fits(step, *arguments, device=CPU):
    return fits_one_kernel(jax.make_jaxpr(step)(*arguments).jaxpr, device)


def neuron_step(weight, rows):
    """A step of one linear neuron: a matrix times a vector, forth and back."""
    batch = DATA[rows]

    def loss(weight):
        return jnp.sqrt(jnp.mean((batch @ weight - 1) ** 2))

    return weight - 0.1 * jax.grad(loss)(weight)


@jax.jit
def sorted_inside(x):
    return jnp.sort(x)


def convolved(x):
    return jax.lax.conv(x[None, None], jnp.ones((1, 1, 3)), (1,), "SAME")


FITTING = {
    "a neuron": (neuron_step, (jnp.ones(3), ROWS)),
    "a vmapped neuron": (
        lambda w, r: jax.vmap(lambda x: jnp.tanh(w @ x))(DATA[r]),
        (jnp.ones(3), ROWS),
    ),
    "two vectors": (lambda x: x @ x, (jnp.ones(3),)),
    "an outer product": (jnp.outer, (jnp.ones(3), jnp.ones(4))),
    "a matrix of one row": (lambda a, b: a @ b, (jnp.ones((1, 3)), jnp.ones((3, 4)))),
    "a softmax": (jax.nn.softmax, (jnp.ones(5),)),
    "a branch": (lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), (jnp.ones(3),)),
    "keys": (lambda s: jr.fold_in(jr.key(s), 3), (jnp.uint32(1),)),
    "nothing": (lambda x: x, (jnp.ones(3),)),
}
NOT_FITTING = {
    "a product of matrices": (lambda a, b: a @ b, (jnp.ones((2, 3)), jnp.ones((3, 2)))),
    "one inside": (jax.jit(lambda a, b: jnp.tanh(jax.jit(jnp.matmul)(a, b))), (jnp.ones((2, 3)), jnp.ones((3, 2)))),
    "a layer, vmapped": (lambda w, x: jax.vmap(lambda row: w @ row)(x), (jnp.ones((4, 3)), DATA)),
    "a layer's gradient": (jax.grad(lambda w, x: jnp.sum(jnp.tanh(x @ w.T))), (jnp.ones((4, 3)), DATA)),
    "products side by side": (jax.vmap(jnp.matmul), (jnp.ones((2, 3)), jnp.ones((2, 3)))),
    "a sort": (jnp.sort, (jnp.ones(3),)),
    "a sort inside": (sorted_inside, (jnp.ones(3),)),
    "a sort in a branch": (lambda x: jax.lax.cond(x[0] > 0, jnp.sort, jnp.sin, x), (jnp.ones(3),)),
    "a convolution": (convolved, (jnp.ones(9),)),
    "a loop": (lambda x: jax.lax.fori_loop(0, 3, lambda _, x: x + 1, x), (jnp.ones(3),)),
    "a call to the host": (lambda x: jax.pure_callback(np.sin, x, x), (jnp.ones(3),)),
    "a decomposition": (jnp.linalg.inv, (jnp.eye(2),)),
    "too much": (lambda x: jnp.sin(x), (jnp.ones(1 << 16),)),
    "too much in a product": (lambda a, x: a @ x, (jnp.ones((256, 256)), jnp.ones(256))),
    "a little, too often": (lambda x: sum(jnp.sin(x + n) for n in range(40)), (jnp.ones(1024),)),
}  # fmt: skip


@pytest.mark.parametrize("name", FITTING)
def test_small_plain_steps_fit(name):
    step, arguments = FITTING[name]
    assert fits(step, *arguments)


@pytest.mark.parametrize("name", NOT_FITTING)
def test_steps_that_are_large_or_call_a_library_do_not(name):
    step, arguments = NOT_FITTING[name]
    assert not fits(step, *arguments)


def test_only_the_cpu_has_it(unchecked):
    step, arguments = FITTING["a neuron"]
    for platform in ("gpu", "tpu"):
        assert not fits(step, *arguments, device=types.SimpleNamespace(platform=platform))
    assert fits(step, *arguments, device=types.SimpleNamespace(platform="cpu"))


@pytest.mark.parametrize(
    ("step", "shapes", "operations"),
    [
        (lambda x: x, [(7,)], 0),
        (jax.lax.sin, [(7,)], 7),
        (lambda x: jax.lax.sin(jax.lax.cos(x)), [(2, 3)], 12),
        (jnp.dot, [(5,), (5,)], 10),
        (jax.lax.dot, [(3, 5), (5, 4)], 2 * 3 * 5 * 4),
        # Each of 8 numbers is the sum of 3 products.
        (lambda x, k: jax.lax.conv(x, k, (1,), "VALID"), [(1, 1, 10), (1, 1, 3)], 2 * 8 * 3),
    ],
)
def test_work_counts_scalar_operations(step, shapes, operations):
    arguments = [jnp.ones(shape) for shape in shapes]
    assert work(jax.make_jaxpr(step)(*arguments).jaxpr) == operations


def test_the_rounds_of_a_loop_count():
    """Or a step with a loop in it would be taken for a short one, and many of them be asked for."""

    def times(rounds):
        scanned = lambda x: jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, length=rounds)[0]
        return work(jax.make_jaxpr(scanned)(jnp.ones(7)).jaxpr)

    assert times(100) - times(50) == 50 * 7
    endless = lambda x: jax.lax.while_loop(lambda x: x[0] < 1, lambda x: x + 1, x)
    assert work(jax.make_jaxpr(endless)(jnp.ones(7)).jaxpr) >= 1000 * 7


def test_work_grows_with_the_batch():
    counts = [
        work(jax.make_jaxpr(neuron_step)(jnp.ones(3), jnp.arange(n)).jaxpr) for n in (10, 20, 40)
    ]
    assert counts[0] < counts[1] < counts[2]
    assert 1.8 < counts[2] / counts[1] < 2.1


def looped(steps, *carry):
    """A small loop, as a run has it."""

    def body(now):
        place, weight, total = now
        weight = neuron_step(weight, (ROWS + place) % 50)
        return place + 1, weight, total + weight.sum()

    return jax.lax.while_loop(lambda now: now[0] < steps, body, (jnp.int32(0), *carry))


def whole(function, *arguments):
    return jax.jit(lambda *a: as_one_kernel(function)(*a))(*arguments)


def test_the_same_bits_as_without():
    arguments = (jnp.int32(25), jnp.array([0.5, -1.0, 2.0]), jnp.zeros(()))
    results = whole(looped, *arguments)
    assert tree_allclose(results, jax.jit(looped)(*arguments), rtol=0, atol=0)
    assert results[0] == 25

    weight, data = np.array([0.5, -1.0, 2.0]), np.ones((8, 3))
    for _ in range(25):
        residual = data @ weight - 1
        weight -= 0.1 * residual @ data / 8 / np.sqrt(np.mean(residual**2))
    np.testing.assert_allclose(results[1], weight, rtol=1e-4)


def test_the_compiler_is_told():
    text = jax.jit(lambda x: as_one_kernel(jnp.sin)(x)).lower(jnp.ones(3)).as_text()
    assert "xla_cpu_small_call" in text
    assert "xla_cpu_small_call" not in jax.jit(jnp.sin).lower(jnp.ones(3)).as_text()


def halved(x, *others):
    """Something with a loop in it, that reads its first argument only."""
    del others
    return jax.lax.fori_loop(0, 3, lambda _, x: x / 2, x)


def branching(branches):
    """A loop that takes one branch after the other."""

    def body(place, carry):
        return jax.lax.switch(place % len(branches), branches, *carry)

    return lambda *carry: jax.lax.fori_loop(0, 7, body, carry)


X, N, FLAG = jnp.array([1.0, 2.0, 4.0]), jnp.arange(3), jnp.array([True, False])
keep = lambda *carry: carry
BRANCHES = {
    "a step or none": ((keep, lambda w, n: (neuron_step(w, ROWS), n + 1)), (X, N)),
    "places changed": ((keep, lambda a, b: (b, a)), (X, 2 * X)),
    "nothing read": ((lambda x, n: (jnp.ones(3), n), keep), (X, N)),
    "one of three": ((keep, lambda x: (x / 2,), lambda x: (jnp.tanh(x),)), (X,)),
    "one in another": ((keep, lambda x: (jax.lax.cond(x[0] > 0, jnp.negative, jnp.abs, x),)), (X,)),
    "truths": ((keep, lambda f, x: (~f, x)), (FLAG, X)),
    "halves": ((keep, lambda h: (h / 2,)), (X.astype(jnp.bfloat16),)),
    "a number": ((keep, lambda s: (s + 1,)), (jnp.float32(2),)),
    "nothing in an array": ((keep, lambda e, x: (e, x + 1)), (jnp.ones((0, 2)), X)),
    "useless": ((keep, lambda x, n: (x + jnp.sum(n * 0), n)), (X, N)),
    "rows": ((keep, lambda x, n: (x[n[::-1]], n)), (X, N)),
    "sums": ((keep, lambda x, n: (x / jnp.sqrt(jnp.mean(x**2)), n + jnp.argmax(x))), (X, N)),
}  # fmt: skip


@pytest.mark.parametrize("name", BRANCHES)
def test_branches_are_held_to_the_bit(name):
    branches, carry = BRANCHES[name]
    plain = branching(branches)
    assert tree_allclose(whole(plain, *carry), jax.jit(plain)(*carry), rtol=0, atol=0)


OTHERS = {
    "integers": jnp.arange(3),
    "bytes": jnp.arange(3, dtype=jnp.uint8),
    "truths": jnp.array([True, False]),
    "a scalar": jnp.int32(7),
    "halves": jnp.ones(2, jnp.bfloat16),
    "nan": jnp.full(2, jnp.nan),
    "an empty array": jnp.ones((0, 2)),
    "no truths": jnp.zeros(0, bool),
    "a key": jr.key(1),
    "complex": jnp.ones(2, jnp.complex64),
}
each_other = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


@each_other
def test_arguments_may_be_unused(other):
    x = jnp.array([8.0, 16.0])
    assert whole(halved, x, other).tolist() == [1, 2]
    assert whole(lambda o, x: halved(x), other, x).tolist() == [1, 2]


@each_other
def test_arguments_may_come_back_as_they_are(other):
    x, back = whole(lambda x, o: (halved(x), o), jnp.array([8.0, 16.0]), other)
    assert x.tolist() == [1, 2]
    assert back.dtype == other.dtype
    assert back.shape == other.shape
    assert (jax.jit(lambda a, b: (a == b) | (a != a))(back, other)).all()


@pytest.mark.parametrize(
    "vanishing",
    [
        lambda n: jnp.sum(n * 0),
        lambda n: jnp.sum(n - n),
        lambda n: jnp.sum(n[:0]),
        lambda n: jnp.where((n > 0) | True, 0, n)[0],
    ],
)
def test_arguments_may_be_found_useless_by_the_compiler(vanishing):
    # JAX sees a use, the compiler sees none: that is where it ends the process.
    call = lambda x, n: halved(x) + vanishing(n)
    assert whole(call, jnp.array([8.0, 16.0]), jnp.arange(3)).tolist() == [1, 2]


def test_trees_go_in_and_come_out():
    tree = {"a": (jnp.ones(2), None), "b": [jnp.arange(2), jnp.array(True)]}
    call = lambda t: {"c": t["a"][0] + t["b"][0], "d": (t["b"][1], None)}
    assert tree_allclose(whole(call, tree), call(tree))


def test_the_same_argument_twice():
    x = jnp.array([8.0, 16.0])
    call = as_one_kernel(lambda a, b: halved(a) + b)
    assert jax.jit(lambda x: call(x, x))(x).tolist() == [9, 18]
    assert jax.jit(lambda x: call(x, jnp.ones(2)))(x).tolist() == [2, 3]


def test_double_precision(x64):
    x, n = jnp.array([8.0, 0.1]), jnp.arange(3)
    result = whole(lambda x, n: halved(x) + jnp.sum(n * 0), x, n)
    assert result.dtype == jnp.float64
    assert result.tolist() == [1, 0.1 / 8]
