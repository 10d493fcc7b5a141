"""Test the op-by-op reference against autograd, closed forms, finite differences and values computed by hand.

Autograd also computes in float64, but with other formulas (logsumexp; sigmoid from tanh). The two differ by
rounding alone: some 1e-16 for an operation, in sums of a few dozen terms. The tolerance is 1e-12 of the
largest entry of an array. That leaves a factor of 100 for rounding, and is far below the effect of any wrong
term.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad, make_vjp
from autograd.extend import defvjp, primitive
from autograd.scipy.special import logsumexp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.testing import gradcheck, reference
from fnnexp.nn.testing.reference import Adam, Log, Momentum, Network, Sgd, Softmax, interleaved, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDING = 1e-12
X, y = np.random.default_rng(4).standard_normal((9, 7)), np.random.default_rng(5).integers(0, 4, 9)


def assert_same(actual: Any, expected: Any) -> None:
    atol = ROUNDING * max(1e-3, np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=atol)


@primitive
def tanh_with_published_mistake(Z: Any) -> Any:
    return np.tanh(Z)


defvjp(tanh_with_published_mistake, lambda A, Z: lambda dA: (1 - np.tanh(A) ** 2) * dA)

AUTOGRAD_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda Z: anp.maximum(Z, 0),
    "tanh": anp.tanh,
    "tanh_as_published": tanh_with_published_mistake,
    "sigmoid": lambda Z: (1 + anp.tanh(Z / 2)) / 2,
    "leaky_relu": lambda Z: anp.maximum(Z, 0.01 * Z),
    "elu": lambda Z: anp.where(Z > 0, Z, anp.expm1(anp.minimum(Z, 0))),
    "selu": lambda Z: (
        1.0507009873554805 * anp.where(Z > 0, Z, 1.6732632423543772 * anp.expm1(anp.minimum(Z, 0)))
    ),
    "softplus": lambda Z: anp.maximum(Z, 0) + anp.log1p(anp.exp(-anp.abs(Z))),
    "softsign": lambda Z: Z / (1 + anp.abs(Z)),
    "gelu": lambda Z: Z * (1 + anp.tanh(anp.sqrt(2 / anp.pi) * (Z + 0.044715 * Z**3))) / 2,
    "silu": lambda Z: Z / (1 + anp.exp(-Z)),
    "identity": lambda Z: 1 * Z,
}

SMOOTHED = 0.8 * np.eye(4, 5) + 0.2 / 5


def binary_log_likelihood(A: Any, T: np.ndarray) -> Any:
    return (T * anp.log(A) + (1 - T) * anp.log(1 - A)).sum(axis=1)


AUTOGRAD_OPERATIONS: dict[str, Callable[..., Any]] = {
    "matmul": lambda X, W: anp.einsum("bi,io->bo", X, W),
    "add": lambda Z, b: Z + b,
    **AUTOGRAD_ACTIVATIONS,
    "dropout": lambda A: A * np.where(np.arange(20).reshape(4, 5) % 5 < 3, 1 / 0.6, 0.0),
    "softmax": lambda Z: anp.exp(Z - logsumexp(Z, axis=1, keepdims=True)),
    "log": lambda P: anp.log(P + 0.01),
    "cross_entropy": lambda P: -(SMOOTHED * anp.log(P + 0.01)).sum(axis=1),
    "binary_cross_entropy": lambda Z: -binary_log_likelihood((1 + anp.tanh(Z / 2)) / 2, SMOOTHED),
    "squared_error": lambda A: ((A - SMOOTHED) ** 2).sum(axis=1) / 2,
}


@pytest.mark.parametrize("name", gradcheck.OPERATIONS)
def test_an_op_and_its_gradients_equal_those_of_autograd(name: str) -> None:
    make, draw = gradcheck.OPERATIONS[name]
    op, inputs, rng = make(), draw(np.random.default_rng(1)), np.random.default_rng(2)
    out = op.forward(*inputs)
    assert_same(out, AUTOGRAD_OPERATIONS[name](*inputs))
    d_inputs = op.backward(d_out := rng.standard_normal(out.shape))
    d_inputs = d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)
    vjp, _ = make_vjp(lambda args: AUTOGRAD_OPERATIONS[name](*args))(tuple(inputs))
    for d_input, expected in zip(d_inputs, vjp(d_out), strict=True):
        assert_same(d_input, expected)


def test_sigmoid_clips_its_input_at_500_and_never_overflows() -> None:
    op = reference.Sigmoid()
    with np.errstate(all="raise", under="ignore"):
        A = op.forward(np.array([-1e6, -500.0, 500.0, 1e6]))
        dZ = op.backward(np.ones(4))
    assert A[0] == A[1] == 1 / (1 + np.exp(500.0))
    assert A[2] == A[3] == 1.0
    assert np.abs(dZ).max() < 1e-216


@settings(deadline=None)
@given(arrays(np.float64, (3, 10), elements=st.floats(-1e4, 1e4)), st.floats(-1e4, 1e4))
def test_softmax_rows_sum_to_one_and_are_invariant_to_a_shift(Z: np.ndarray, shift: float) -> None:
    P = Softmax().forward(Z)
    np.testing.assert_allclose(P.sum(axis=1), 1.0, rtol=0, atol=1e-14)
    # Z + shift rounds to about 2e4 · 2⁻⁵³ = 2e-12, so p changes by a factor of about 1 ± 2e-12.
    np.testing.assert_allclose(Softmax().forward(Z + shift), P, rtol=1e-11, atol=1e-300)


def drawn_parameters(sizes: Sequence[int], biased: Sequence[bool]) -> tuple[list[Any], list[Any]]:
    rng = np.random.default_rng(3)
    W = [rng.normal(0.0, 0.7, shape) for shape in pairwise(sizes)]
    return W, [rng.normal(0.0, 0.7, n) if has else None for n, has in zip(sizes[1:], biased, strict=True)]


def autograd_losses(parameters: Any, biased: Sequence[bool], activation: str, epsilon: float) -> Any:
    A, remaining = X, iter(parameters)
    for i, has in enumerate(biased):
        A = anp.dot(A, next(remaining)) + (next(remaining) if has else 0)
        A = AUTOGRAD_ACTIVATIONS[activation](A) if i < len(biased) - 1 else A
    log_p = (A - logsumexp(A, axis=1, keepdims=True))[anp.arange(len(y)), y]
    return -(log_p if epsilon == 0 else anp.log(anp.exp(log_p) + epsilon))


@pytest.mark.parametrize("biased", [(True, True, True), (False, False, False), (True, True, False)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-2])
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_the_losses_and_gradients_of_a_network_equal_those_of_autograd(
    activation: str, epsilon: float, reduction: str, biased: tuple[bool, ...]
) -> None:
    W, b = drawn_parameters((7, 6, 5, 4), biased)

    def losses_of(parameters: Any) -> Any:
        return autograd_losses(parameters, biased, activation, epsilon)

    reduce = {"mean": anp.mean, "sum": anp.sum}[reduction]
    network = Network(W, b, activation, epsilon, reduction)
    losses, P, dWs, dbs = network.loss_and_gradients(X, y)
    assert_same(losses, losses_of(network.parameters))
    assert_same(-np.log(P[np.arange(9), y] + epsilon), losses)
    assert [db is not None for db in dbs] == list(biased)
    expected = grad(lambda parameters: reduce(losses_of(parameters)))(network.parameters)
    for d_actual, d_expected in zip(interleaved(dWs, dbs), expected, strict=True):
        assert_same(d_actual, d_expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(("loss", "output"), [(loss, o) for loss, outputs in LOSSES.items() for o in outputs])
def test_each_loss_with_each_output_equals_that_of_autograd(loss: str, output: str, smoothing: float) -> None:
    (W,), (b,) = drawn_parameters((7, 4), (True,))
    smooth = smoothing / (2 if loss == "binary_cross_entropy" else 4)
    T = (1 - smoothing) * np.eye(4)[y] + smooth
    apply = {
        "softmax": AUTOGRAD_OPERATIONS["softmax"],
        "sigmoid": AUTOGRAD_ACTIVATIONS["sigmoid"],
        "identity": lambda Z: Z,
    }[output]
    value = {
        "cross_entropy": lambda A: -(T * anp.log(A)).sum(axis=1),
        "binary_cross_entropy": lambda A: -binary_log_likelihood(A, T),
        "mse": lambda A: ((A - T) ** 2).sum(axis=1) / 2,
    }[loss]
    losses_of = lambda parameters: value(apply(X @ parameters[0] + parameters[1]))  # noqa: E731
    network = Network([W], [b], "relu", loss=loss, output=output, smoothing=smoothing)
    losses, P, dWs, dbs = network.loss_and_gradients(X, y)
    assert_same(losses, losses_of((W, b)))
    assert_same(P, apply(X @ W + b))
    expected = grad(lambda parameters: anp.mean(losses_of(parameters)))((W, b))
    for d_actual, d_expected in zip(interleaved(dWs, dbs), expected, strict=True):
        assert_same(d_actual, d_expected)


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-2])
def test_the_gradient_of_log_and_softmax_equals_its_closed_form_with_epsilon(epsilon: float) -> None:
    Z = np.array([[0.0, 3.0, -20.0, 1.0], [0.0, -4.0, -29.0, -5.0], [7.0, 0.0, -3.0, 2.0]])
    y = np.array([2, 2, 0])  # p_y is about 1e-10, 3e-13 and 1
    softmax, log, onehot = Softmax(), Log(epsilon), np.eye(4)[y]
    p = softmax.forward(Z)
    log.forward(p)
    p_y = p[np.arange(3), y][:, None]
    assert_same(softmax.backward(log.backward(-onehot)), p_y / (p_y + epsilon) * (p - onehot))


def test_a_tiny_network_equals_values_computed_by_hand() -> None:
    # z = (1, 2) W1 + b1 = (2, −0.5), a = (2, 0), logits (ln 3, 0), p = (3/4, 1/4), p − onehot = (3/4, −3/4)
    W1, b1 = np.array([[1.0, -1.0], [0.5, 0.0]]), np.array([0.0, 0.5])
    W2, b2 = np.array([[np.log(3) / 2, 0.0], [5.0, 1.0]]), np.zeros(2)
    network = Network([W1, W2], [b1, b2], "relu")
    losses, P, dWs, dbs = network.loss_and_gradients(np.array([[1.0, 2.0]]), np.array([1]))
    assert_same(losses, [np.log(4)])
    assert_same(P, [[0.75, 0.25]])
    assert_same(dWs[1], [[1.5, -1.5], [0.0, 0.0]])
    assert_same(dbs[1], [0.75, -0.75])
    dz = 3 / 8 * np.log(3)  # da is (3/8 ln 3, 3); ReLU blocks the second entry
    assert_same(dWs[0], [[dz, 0.0], [2 * dz, 0.0]])
    assert_same(dbs[0], [dz, 0.0])


def loss_and_gradient_for_logit(z: float, epsilon: float) -> tuple[float, np.ndarray]:
    network = Network([np.array([[0.0, z]])], [None], "relu", epsilon)
    losses, _, dWs, _ = network.loss_and_gradients(np.array([[1.0]]), np.array([0]))
    return losses[0], dWs[0]


@pytest.mark.parametrize(("z", "largest"), [(60.0, 1e-14), (800.0, 0.0)])
def test_with_epsilon_an_image_whose_probability_underflows_has_no_gradient(z: float, largest: float) -> None:
    loss, dW = loss_and_gradient_for_logit(z, epsilon=1e-12)
    assert_same(loss, -np.log(1e-12))
    assert np.abs(dW).max() <= largest


def test_without_epsilon_a_tiny_probability_has_its_full_gradient_and_no_nan() -> None:
    loss, dW = loss_and_gradient_for_logit(600.0, epsilon=0.0)
    assert_same(loss, 600.0)
    assert_same(dW, [[-1.0, 1.0]])
    loss, dW = loss_and_gradient_for_logit(800.0, epsilon=0.0)
    assert loss == np.inf
    assert np.isfinite(dW).all()


A = np.array([0.5, 2.0, 30.0])  # f(θ) = a θ² / 2
INITIAL = np.array([1.0, -3.0, 0.2])


def theta_after(optimizer: Any, steps: int) -> np.ndarray:
    theta = INITIAL.copy()
    for _ in range(steps):
        optimizer.step([theta], [A * theta])
    return theta


def test_sgd_on_a_quadratic_converges_geometrically() -> None:
    assert_same(theta_after(Sgd(0.01), 40), (1 - 0.01 * A) ** 40 * INITIAL)


def test_momentum_on_a_quadratic_equals_its_linear_recurrence() -> None:
    # θ_{t+1} = (1 + μ − lr a) θ_t − μ θ_{t−1}, so θ_t = c₁ r₁ᵗ + c₂ r₂ᵗ, where r² − (1 + μ − lr a) r + μ = 0.
    lr, mu, steps = 0.01, 0.9, 40
    trace = 1 + mu - lr * A
    root = np.sqrt((trace**2 - 4 * mu).astype(complex))
    r1, r2 = (trace + root) / 2, (trace - root) / 2
    c1 = INITIAL * ((1 - lr * A) - r2) / (r1 - r2)
    assert_same(theta_after(Momentum(lr, mu), steps), (c1 * r1**steps + (INITIAL - c1) * r2**steps).real)


def test_the_first_step_of_adam_is_minus_lr_times_the_sign_of_the_gradient() -> None:
    theta, g = np.zeros(4), np.array([1e-3, -7.0, 2e5, 0.0])
    Adam(0.1).step([theta], [g])
    assert_same(theta, -0.1 * g / (np.abs(g) + 1e-8))
    np.testing.assert_allclose(theta[:3], -0.1 * np.sign(g[:3]), rtol=1e-4)


def test_the_second_step_of_adam_equals_its_closed_form() -> None:
    # The bias-corrected moments are m̂ = (β₁ g₁ + g₂) / (1 + β₁) and v̂ = (β₂ g₁² + g₂²) / (1 + β₂).
    beta1, beta2, eps = 0.8, 0.95, 1e-3
    optimizer, theta, g1, g2 = Adam(0.1, beta1, beta2, eps), np.zeros(2), A[:2], INITIAL[:2]
    optimizer.step([theta], [g1])
    before = theta.copy()
    optimizer.step([theta], [g2])
    m_hat, v_hat = (beta1 * g1 + g2) / (1 + beta1), (beta2 * g1**2 + g2**2) / (1 + beta2)
    assert_same(theta - before, -0.1 * m_hat / (np.sqrt(v_hat) + eps))


@pytest.mark.parametrize("make", [lambda: Sgd(0.1), lambda: Momentum(0.1, 0.9), lambda: Adam(0.01)])
def test_train_repeats_the_gradient_step_on_the_rows_of_each_batch(make: Callable[[], Any]) -> None:
    W, b = drawn_parameters((7, 6, 4), (True, False))
    batches = [np.array([0, 3, 5]), np.array([8]), np.array([2, 2, 1])]
    network, by_hand, optimizer = Network(W, b, "tanh"), Network(W, b, "tanh"), make()
    results = list(train(network, make(), X, y, batches))
    for rows, (loss, accuracy) in zip(batches, results, strict=True):
        losses, P, dWs, dbs = by_hand.loss_and_gradients(X[rows], y[rows])
        assert loss == losses.mean()
        assert accuracy == np.mean([p.argmax() == y_i for p, y_i in zip(P, y[rows], strict=True)])
        optimizer.step(by_hand.parameters, interleaved(dWs, dbs))
    assert all(map(np.array_equal, network.parameters, by_hand.parameters))
    assert not np.array_equal(network.W[0], W[0])  # the arrays passed to Network do not change


def test_all_gradient_checks_pass_except_those_of_the_published_mistake() -> None:
    checks, examples = gradcheck.run(), [*gradcheck.ARCHITECTURES, *gradcheck.losses()]
    assert [c.name for c in checks] == [
        *gradcheck.OPERATIONS,
        *examples,
        *(f"stacked {name}" for name in examples),
        *(
            f"per_sample {name}"
            for name in gradcheck.ARCHITECTURES
            if not re.match("relu.gelu|gelu|silu", name)
        ),
        *(f"stacked {name}" for name in gradcheck.REGULARIZED),
        *(f"numba stacked {name}" for name in (*examples, *gradcheck.REGULARIZED)),
        *(f"numba per_sample {name}" for name in gradcheck.ARCHITECTURES),
    ]
    assert tuple(c.name for c in checks if not c.passed) == gradcheck.KNOWN_WRONG
    assert all(c.passed == (c.max_relative_error <= c.tolerance) for c in checks)
    assert all(c.max_relative_error > 1e-2 for c in checks if c.name in gradcheck.KNOWN_WRONG)
    assert all(c.max_relative_error < 2e-7 for c in checks if c.passed)  # by a clear margin


def test_without_numba_only_the_gradients_of_numpy_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError("No module named 'numba'")

    monkeypatch.setattr(gradcheck, "engine_named", missing)
    names = list(gradcheck.checks())
    assert f"per_sample {next(iter(gradcheck.ARCHITECTURES))}" in names
    assert not [name for name in names if "numba" in name]


@pytest.mark.parametrize("images", [1, 6])
@pytest.mark.parametrize("name", gradcheck.ARCHITECTURES)
def test_the_check_of_numba_uses_lists_of_pixels(name: str, images: int) -> None:
    stacked = gradcheck._Stacked(gradcheck.ARCHITECTURES[name], images, "numba")
    assert all(type(examples).__name__ == "SparseExamples" for _, examples in stacked.inputs)


def test_the_gradient_check_detects_a_gradient_that_omits_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_epsilon(network: Network, y: np.ndarray) -> np.ndarray:
        return -np.eye(10)[y] / network.output.P * (1 if network.reduction == "sum" else 1 / len(y))

    monkeypatch.setattr(Network, "gradient", without_epsilon)
    assert [check.passed for check in gradcheck.run(["relu_full_batch", "relu_100"])] == [False, True]


@pytest.mark.parametrize("factor", [-1.0, 1.001, np.nan])
def test_the_gradient_check_detects_one_wrong_entry_and_restores_the_parameters(factor: float) -> None:
    W, b = drawn_parameters((7, 6, 4), (True, True))
    network = Network(W, b, "sigmoid")
    _, _, dWs, dbs = network.loss_and_gradients(X, y)
    before = [p.copy() for p in network.parameters]

    def passed() -> bool:
        loss = lambda: float(network.loss(network.forward(X), y).mean())  # noqa: E731
        return gradcheck.check_gradients("", loss, network.parameters, interleaved(dWs, dbs)).passed

    assert passed()
    dWs[1][2, 1] *= factor
    assert not passed()
    assert all(map(np.array_equal, network.parameters, before))


def test_central_differences_equal_the_gradient_of_a_polynomial_and_restore_its_argument() -> None:
    x = np.array([[1.0, -2.0], [0.0, 3.0]])
    before = x.copy()
    numeric = gradcheck._central_differences(lambda: float((x**3).sum()), x, range(4)).reshape(x.shape)
    assert np.array_equal(x, before)
    np.testing.assert_allclose(numeric, 3 * x**2, rtol=0, atol=1e-8)  # ten times 4e-11 of f = 20


def test_wrong_names_shapes_and_dtypes_are_refused_with_the_allowed_values() -> None:
    W, x = [np.eye(2)], np.zeros(3)
    for message, call in {
        "'swish': must be one of relu, tanh, .*, leaky_relu": lambda: Network(W * 2, [None] * 2, "swish"),
        "'max': must be one of mean, sum": lambda: Network(W, [None], "relu", reduction="max"),
        "shorter": lambda: Network(W * 2, [None], "relu"),
        "relu_10O: must be one of matmul, .*relu_100": lambda: gradcheck.run(["relu", "relu_10O"]),
        "relu_100: must be one of matmul": lambda: gradcheck.check_operation("relu_100"),
        "float32; must be float64": lambda: gradcheck.check_gradients("", float, [x.astype("f4")], [x]),
        "shapes": lambda: gradcheck.check_gradients("", float, [x], [x[:2]]),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
