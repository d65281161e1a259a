import jax
import numpy as np
import pytest

from flax_talk.nets.recurrent import GRU, LSTM, BidirectionalGRU, hard_sigmoid

B, T, F, H = 3, 7, 4, 5


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(params, x, layers, state):
    """PyTorch's equations, gates in its order (reset, update, new), in double precision."""
    carry = []
    for layer in range(layers):
        weight_ih = np.asarray(params[f"input_kernel_{layer}"], np.float64).T
        weight_hh = np.asarray(params[f"recurrent_kernel_{layer}"], np.float64).T
        bias_ih = np.asarray(params[f"input_bias_{layer}"], np.float64)
        bias_hh = np.asarray(params[f"recurrent_bias_{layer}"], np.float64)
        width = weight_hh.shape[1]
        outputs = np.zeros((*x.shape[:2], width))
        for b in range(x.shape[0]):
            h = state[b, layer]
            for t in range(x.shape[1]):
                from_input = (weight_ih @ x[b, t] + bias_ih).reshape(3, width)
                from_state = (weight_hh @ h + bias_hh).reshape(3, width)
                reset = sigmoid(from_input[0] + from_state[0])
                update = sigmoid(from_input[1] + from_state[1])
                new = np.tanh(from_input[2] + reset * from_state[2])
                h = (1 - update) * new + update * h
                outputs[b, t] = h
        carry.append(outputs[:, -1])
        x = outputs
    return x, np.stack(carry, axis=1)


@pytest.fixture(scope="module", params=[1, 2], ids=["1 layer", "2 layers"])
def case(request):
    layers = request.param
    random = np.random.default_rng(layers)
    gru = GRU(H, layers)
    x = random.normal(size=(B, T, F)).astype(np.float32)
    shapes = jax.eval_shape(lambda: gru.init(jax.random.key(0), x))["params"]
    # All drawn, because the initial biases are zero and would hide a mistake.
    params = jax.tree.map(lambda s: random.normal(size=s.shape).astype(np.float32), shapes)
    return layers, jax.jit(gru.apply), {"params": params}, x


def test_gru_follows_the_equations_of_pytorch(case):
    layers, apply, variables, x = case
    outputs, carry = apply(variables, x)
    expected, last = reference(variables["params"], x, layers, np.zeros((B, layers, H)))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(carry, last, atol=1e-5)


def test_gru_starts_from_the_carry(case):
    layers, apply, variables, x = case
    start = np.random.default_rng(9).normal(size=(B, layers, H)).astype(np.float32)
    outputs, carry = apply(variables, x, start)
    expected, last = reference(variables["params"], x, layers, start)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(carry, last, atol=1e-5)


@pytest.mark.parametrize("cut", [1, 4])
def test_a_sequence_in_chunks_equals_the_whole(case, cut):
    _, apply, variables, x = case
    whole, last = apply(variables, x)
    first, carry = apply(variables, x[:, :cut])
    second, carry = apply(variables, x[:, cut:], carry)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(carry, last, atol=1e-6)


def test_without_layers_the_inputs_pass():
    x = np.ones((B, T, F), np.float32)
    (outputs, carry), variables = GRU(H, 0).init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(outputs, x)
    assert not variables and carry.shape == (B, 0, H)


def test_gradient_is_finite_and_reaches_every_parameter():
    gru = GRU(H, 2)
    # Large inputs saturate the gates.
    x = 100 * np.random.default_rng(0).normal(size=(B, 50, F)).astype(np.float32)
    variables = gru.init(jax.random.key(0), x)
    grads = jax.jit(jax.grad(lambda v: gru.apply(v, x)[0].sum()))(variables)["params"]
    assert len(grads) == 8
    for name, grad in grads.items():
        assert np.isfinite(grad).all(), name
        assert (np.asarray(grad) != 0).any(), name


def test_gru_with_the_reset_before_the_product_follows_the_equations_of_keras():
    """Keras with reset_after=False: one bias, other gates, the state reset before its matrix."""
    random = np.random.default_rng(3)
    x = random.normal(size=(B, T, F)).astype(np.float32)
    gru = GRU(H, reset_after=False, gate=hard_sigmoid)
    shapes = jax.eval_shape(lambda: gru.init(jax.random.key(0), x))["params"]
    params = jax.tree.map(lambda s: random.normal(size=s.shape).astype(np.float32), shapes)
    outputs, _ = jax.jit(gru.apply)({"params": params}, x)

    w_reset, w_update, w_new = np.split(np.float64(params["input_kernel_0"]), 3, axis=1)
    u_reset, u_update, u_new = np.split(np.float64(params["recurrent_kernel_0"]), 3, axis=1)
    bias = np.float64(params["input_bias_0"]) + params["recurrent_bias_0"]
    b_reset, b_update, b_new = np.split(bias, 3)
    h = np.zeros((B, H))
    for t in range(T):
        reset = np.clip(0.2 * (x[:, t] @ w_reset + h @ u_reset + b_reset) + 0.5, 0, 1)
        update = np.clip(0.2 * (x[:, t] @ w_update + h @ u_update + b_update) + 0.5, 0, 1)
        new = np.tanh(x[:, t] @ w_new + (reset * h) @ u_new + b_new)
        h = update * h + (1 - update) * new
        np.testing.assert_allclose(outputs[:, t], h, atol=1e-5)


def test_both_directions_see_the_valid_steps_alone():
    """Each clip by itself, cut to its length, layer by layer from two plain GRUs."""
    random = np.random.default_rng(4)
    x = random.normal(size=(B, T, F)).astype(np.float32)
    lengths = (T, 4, 1)
    mask = np.arange(T) < np.array(lengths)[:, None]
    net = BidirectionalGRU(H, 2)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), x, mask))["params"]
    assert set(shapes) == {"forward_0", "backward_0", "forward_1", "backward_1"}
    params = jax.tree.map(lambda s: random.normal(size=s.shape).astype(np.float32), shapes)
    outputs = np.asarray(jax.jit(net.apply)({"params": params}, x, mask))
    assert outputs.shape == (B, T, 2 * H)
    for clip, length in enumerate(lengths):
        y = x[clip : clip + 1, :length].astype(np.float64)
        for layer in range(2):
            start = np.zeros((1, 1, H))
            there, _ = reference(params[f"forward_{layer}"], y, 1, start)
            back, _ = reference(params[f"backward_{layer}"], y[:, ::-1], 1, start)
            y = np.concatenate([there, back[:, ::-1]], axis=-1)
        np.testing.assert_allclose(outputs[clip, :length], y[0], atol=1e-5)


def test_lstm_is_its_equations(draw_variables):
    """Gates in the order input, forget, new, output; the forget gate's bias starts at 1."""
    x = np.random.default_rng(0).normal(size=(B, T, F)).astype(np.float32)
    module = LSTM(H, num_layers=2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    params = draw_variables(shapes)["params"]
    expected = x
    for layer in range(2):
        names = (f"input_kernel_{layer}", f"recurrent_kernel_{layer}", f"bias_{layer}")
        w, u, bias = (np.asarray(params[name], np.float64) for name in names)
        outputs = np.zeros((B, T, H))
        for b in range(B):
            h, cell = np.zeros(H), np.zeros(H)
            for t in range(T):
                entry, forget, new, output = (expected[b, t] @ w + h @ u + bias).reshape(4, H)
                cell = sigmoid(forget + 1) * cell + sigmoid(entry) * np.tanh(new)
                h = outputs[b, t] = sigmoid(output) * np.tanh(cell)
        expected = outputs
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=1e-5)
