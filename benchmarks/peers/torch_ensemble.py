"""PyTorch's ensemble of its tutorials: `stack_module_state`, `functional_call`, `vmap` of `grad`.

The optimizer is PyTorch's own, on the stacked parameters."""

import copy

import torch
from many import Many, sized
from peers.torch_eager import network, parts
from tasks import Fit
from torch.func import functional_call, grad, stack_module_state, vmap


def _ensemble(many: Many) -> tuple[dict[str, torch.Tensor], torch.nn.Module]:
    """The members' parameters, stacked, and a model without any."""
    models = [network(many.member(place)) for place in range(many.members)]
    params, _ = stack_module_state(models)
    return params, copy.deepcopy(models[0]).to("meta")


def _build(many: Many, threads: int) -> Fit:
    _, optimizer_class, (inputs, targets) = parts(many.task)
    torch.set_num_threads(threads)
    classifies, batches = many.task.classifies, torch.from_numpy(many.indices).long()
    # Rows first, as a batch takes them.
    counts = None if many.counts is None else torch.from_numpy(many.counts.T.copy()).float()
    params, base = _ensemble(many)
    first = {name: value.detach().clone() for name, value in params.items()}

    def loss(params, inputs, targets, often):
        outputs = functional_call(base, params, (inputs,))
        if classifies:
            return torch.nn.functional.cross_entropy(outputs, targets)
        squares = (outputs[:, 0] - targets) ** 2
        mean = squares.mean() if often is None else (often * squares).sum() / often.sum()
        return torch.sqrt(mean)

    each = 0 if many.own_batches else None
    gradients = vmap(grad(loss), in_dims=(0, each, each, None if counts is None else 1))

    def start():
        params = {name: value.clone().requires_grad_() for name, value in first.items()}
        return params, optimizer_class(params.values(), lr=many.task.learning_rate)

    def run(state):
        params, optimizer = state
        for rows in batches:
            often = None if counts is None else counts[rows]
            with torch.no_grad():
                found = gradients(params, inputs[rows], targets[rows], often)
            for name, parameter in params.items():
                parameter.grad = found[name]
            optimizer.step()
        return params

    weights = lambda params: [value.detach().numpy() for value in params.values()]
    note = "`vmap(grad(...))`, `torch.optim` on the stacked parameters; losses not read"
    return Fit(start, run, weights, many.steps, note, members=many.members)


def fit(many: Many) -> Fit:
    return sized(lambda part: _build(part, threads=1), many)


def all_cores(many: Many) -> Fit:
    threads = torch.get_num_threads()
    return sized(lambda part: _build(part, threads), many)
