"""Compare update rules and schedules with PyTorch over 20 steps, where PyTorch is installed."""

from __future__ import annotations

import numpy as np
import pytest

from fnnexp.nn.engines.base import ENGINES, engine_named
from fnnexp.nn.pieces.optimizers import OPTIMIZERS, decay_weights
from fnnexp.nn.pieces.schedules import Schedule, factors

torch = pytest.importorskip("torch")

STEPS = 20
HYPER = {
    "sgd": {"lr": 0.1},
    "momentum": {"lr": 0.1, "momentum": 0.9},
    "nesterov": {"lr": 0.1, "momentum": 0.9},
    "adagrad": {"lr": 0.1, "epsilon": 1e-10},
    "rmsprop": {"lr": 0.01, "rho": 0.8, "epsilon": 1e-7},
    "adam": {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8},
    "adamw": {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "weight_decay": 0.3},
}


def torch_optimizer(name, W, b):
    h = HYPER[name]
    if name == "adagrad":
        return torch.optim.Adagrad([W, b], h["lr"], eps=h["epsilon"])
    if name == "rmsprop":
        return torch.optim.RMSprop([W, b], h["lr"], alpha=h["rho"], eps=h["epsilon"])
    if name.startswith("adam"):
        groups = [
            {"params": [W], "weight_decay": h.get("weight_decay", 0)},
            {"params": [b], "weight_decay": 0},
        ]
        return torch.optim.AdamW(groups, h["lr"], (h["beta1"], h["beta2"]), h["epsilon"])
    return torch.optim.SGD([W, b], h["lr"], h.get("momentum", 0), nesterov=name == "nesterov")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_equals_pytorchs(name: str, engine: str) -> None:
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((1, 15))  # W (4, 3) and b (3,)
    W, b = (torch.tensor(part.copy(), requires_grad=True) for part in (theta[0, :12], theta[0, 12:]))
    theirs = torch_optimizer(name, W, b)
    hyper = {key: np.array([[value]]) for key, value in HYPER[name].items()}
    rule = OPTIMIZERS[name]
    update = engine_named(engine).updates.get(rule.update, rule.update)
    slots = tuple(np.zeros_like(theta) for _ in range(rule.slots))
    for step in range(1, STEPS + 1):
        grad = rng.standard_normal((1, 15))
        W.grad, b.grad = torch.tensor(grad[0, :12]), torch.tensor(grad[0, 12:])
        theirs.step()
        if "weight_decay" in hyper:
            decay_weights([theta[:, :12].reshape(1, 4, 3)], hyper)
        update(theta, grad, slots, step, hyper)
    expected = np.concatenate([W.detach().numpy(), b.detach().numpy()])
    np.testing.assert_allclose(theta[0], expected, rtol=1e-10)


S = torch.optim.lr_scheduler
THEIRS = {
    "step": lambda o: S.StepLR(o, 6, 0.5),
    "exponential": lambda o: S.ExponentialLR(o, 0.8 ** (1 / 2)),
    "linear": lambda o: S.LinearLR(o, 1.0, 0.1, STEPS),
    "cosine": lambda o: S.CosineAnnealingLR(o, STEPS, 0.1),
    # Its last step has the lowest rate, which ours would reach one step later.
    "one_cycle": lambda o: S.OneCycleLR(
        o, 5.0, total_steps=STEPS + 1, pct_start=(0.3 * STEPS + 1) / (STEPS + 1), anneal_strategy="linear",
        div_factor=5.0, final_div_factor=10.0, cycle_momentum=False,
    ),
    "constant": lambda o: S.LinearLR(o, 1 / 5, 1.0, 4),  # a warmup of 4 steps
}  # fmt: skip
OURS = {
    "step": Schedule("step", (("every", 3.0), ("gamma", 0.5))),
    "exponential": Schedule("exponential", (("gamma", 0.8),)),
    "linear": Schedule("linear", (("end", 0.1),)),
    "cosine": Schedule("cosine", (("end", 0.1),)),
    "one_cycle": Schedule("one_cycle", (("peak", 5.0), ("rise", 0.3), ("end", 0.1))),
    "constant": Schedule("constant", (), 2.0),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", THEIRS)
def test_a_schedule_equals_pytorchs_with_two_steps_an_epoch(name: str) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    theirs, expected = THEIRS[name](optimizer), []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = factors(OURS[name], 0, STEPS, STEPS, steps_per_epoch=2)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)
