"""C: one function for the whole run, compiled by gcc -O3 and called through ctypes."""

import ctypes
import pathlib
import subprocess
import tempfile

import numpy as np
from tasks import Fit, Task


SOURCE = r"""
#include <math.h>
#include <stddef.h>

/* w = (w0, w1, bias); one step of SGD on the RMSE of each row of `indices`. */
void train(const float (*x)[2], const float *y, const int *indices,
           int steps, int batch_size, float learning_rate, float *w)
{
    for (int step = 0; step < steps; step++) {
        const int *rows = indices + (size_t)step * batch_size;
        float squares = 0, g0 = 0, g1 = 0, g2 = 0;
        for (int k = 0; k < batch_size; k++) {
            const float *row = x[rows[k]];
            float residual = row[0] * w[0] + row[1] * w[1] + w[2] - y[rows[k]];
            squares += residual * residual;
            g0 += residual * row[0];
            g1 += residual * row[1];
            g2 += residual;
        }
        float scale = learning_rate / (batch_size * sqrtf(squares / batch_size));
        w[0] -= scale * g0;
        w[1] -= scale * g1;
        w[2] -= scale * g2;
    }
}
"""


def fit(task: Task) -> Fit:
    folder = pathlib.Path(tempfile.mkdtemp())
    source, library = folder / "train.c", folder / "train.so"
    source.write_text(SOURCE)
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, source, "-o", library, "-lm"], check=True)
    train = ctypes.CDLL(str(library)).train
    arrays = [a.ctypes.data_as(ctypes.c_void_p) for a in (task.inputs, task.targets, task.indices)]

    def run(w: np.ndarray) -> np.ndarray:
        rate, out = ctypes.c_float(task.learning_rate), w.ctypes.data_as(ctypes.c_void_p)
        train(*arrays, task.steps, task.batch_size, rate, out)
        return w

    start = lambda: np.zeros(3, np.float32)
    return Fit(start, run, lambda w: [w], task.steps, "no losses kept; one core")
