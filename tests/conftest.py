"""Strict flags, and what tests share."""

import os
import pathlib
import random
import signal
import threading

import jax
import jaxtyping
import pytest


ROOT = pathlib.Path(__file__).parents[1]
# Before any test imports neuron: where arrays have shapes and types, they are checked at every
# call. The rest pyright knows better, and a check of each call took a fifth of the time.
SHAPED = [path for path in (ROOT / "neuron").rglob("*.py") if '[Array, "' in path.read_text()]
jaxtyping.install_import_hook(
    [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SHAPED], "beartype.beartype"
)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Most of the time goes into compiling: what two workers need, or another run, is done once.
COMPILED = ROOT / ".pytest_cache" / "xla"
jax.config.update("jax_compilation_cache_dir", str(COMPILED))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
# Where a shell runs the tests in the background, it has Ctrl-C ignored.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _little_memory():
    yield
    # Else a worker holds on to gigabytes of programs, and slows down.
    jax.clear_caches()


@pytest.fixture
def getkey():
    """Fresh JAX keys, others in each run; `SEED=...` in the environment repeats a run."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    # pytest shows this where a test fails.
    print(f"getkey: SEED={seed}")
    draws = random.Random(seed)
    return lambda: jax.random.key(draws.randrange(1 << 32))


@pytest.fixture
def x64():
    """Double precision for one test."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def unchecked():
    """Annotations as users have them, unchecked: what is refused here is refused by neuron itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
