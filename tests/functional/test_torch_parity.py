"""Values, shapes, dtypes and all gradients equal those of PyTorch, where it is installed."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings

from minifcn import functional, layers, optim
from minifcn.checks.strategies import conv_geometries, pool_geometries

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def check_parity(layer, torch_function, x, dtype="float64"):
    """Compare a layer with a PyTorch function of (x, *parameters): output and all gradients."""
    layer = layer.astype(dtype)
    rng = np.random.default_rng(11)
    for parameter in layer.parameters():
        parameter.data = rng.standard_normal(parameter.data.shape).astype(dtype)
    x = x.astype(dtype)
    y = layer(x)
    dy = rng.standard_normal(y.shape).astype(dtype)
    operands = [
        torch.tensor(array, requires_grad=True) for array in (x, *(p.data for p in layer.parameters()))
    ]
    expected = torch_function(*operands)
    assert y.shape == tuple(expected.shape)  # checked before backward for a clearer message
    expected.backward(torch.tensor(dy))
    mine = [y, layer.backward(dy), *(p.grad for p in layer.parameters())]
    theirs = [expected.detach().numpy(), *(operand.grad.numpy() for operand in operands)]
    for name, got, right in zip(["y", "dx", "dw", "db"], mine, theirs, strict=False):
        assert got.shape == right.shape, name
        assert got.dtype == right.dtype == dtype, name
        tolerance = (1e-12 if dtype == "float64" else 1e-5) * max(np.abs(right).max(), 1)
        np.testing.assert_allclose(got, right, rtol=0, atol=tolerance, err_msg=name)
    assert len(mine) == len(theirs)


def padded(x, case, value=0.0):
    """Pad the four sides, which PyTorch's convolutions and pools cannot do."""
    (top, bottom), (left, right) = case.sides
    return torch.nn.functional.pad(x, (left, right, top, bottom), value=value)


def conv_pair(case, bias):
    """Return a layer and PyTorch's function for a case."""
    layer = layers.Conv2d(case.in_channels, case.out_channels, case.kernel_size, bias=bias, **case.options)
    options = case.options | {"padding": 0}
    return layer, lambda x, w, b=None: torch.nn.functional.conv2d(padded(x, case), w, b, **options)


@settings(max_examples=100)
@given(conv_geometries())
def test_conv2d(case):
    check_parity(*conv_pair(case, bias=case.batch == 1), case.input())


@settings(max_examples=100)
@given(conv_geometries())
def test_conv_transpose2d(case):
    """The case in reverse: from its output size to its input size, with all output paddings."""
    _, _, x = case.operands()
    options = case.options | {"output_padding": case.output_padding}
    layer = layers.ConvTranspose2d(case.out_channels, case.in_channels, case.kernel_size, **options)
    (top, _), (left, _) = case.sides
    height, width = case.input_size

    def transposed(x, w, b):
        y = torch.nn.functional.conv_transpose2d(x, w, b, **options | {"padding": 0})
        return y[:, :, top : top + height, left : left + width]

    check_parity(layer, transposed, x)


@settings(max_examples=100)
@given(pool_geometries(asymmetric=False))
def test_max_pool2d(case):
    layer = layers.MaxPool2d(**case.options)
    check_parity(layer, lambda x: torch.nn.functional.max_pool2d(x, **case.options), case.input())


@settings(max_examples=100)
@given(pool_geometries(asymmetric=False))
def test_avg_pool2d(case):
    layer = layers.AvgPool2d(**case.options)
    check_parity(layer, lambda x: torch.nn.functional.avg_pool2d(x, **case.options), case.input())


@settings(max_examples=100)
@given(pool_geometries().filter(lambda case: not case.ceil_mode))
def test_pools_with_padding_that_differs_at_the_ends(case):
    options = case.options | {"padding": 0}
    check_parity(
        layers.MaxPool2d(**case.options),
        lambda x: torch.nn.functional.max_pool2d(padded(x, case, -torch.inf), **options),
        case.input(),
    )
    check_parity(
        layers.AvgPool2d(**case.options),
        lambda x: torch.nn.functional.avg_pool2d(padded(x, case), **options),
        case.input(),
    )


REAL = [
    (
        layers.Conv2d(16, 32, 3, stride=2, padding=1, rng=0),
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b, stride=2, padding=1),
        (2, 16, 33, 40),
    ),
    (
        layers.Conv2d(16, 16, 5, padding=4, dilation=2, groups=16, rng=0),
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding=4, dilation=2, groups=16),
        (2, 16, 30, 31),
    ),
    (
        layers.ConvTranspose2d(21, 21, 16, stride=8, padding=4, groups=21, bias=False, rng=0),
        lambda x, w: torch.nn.functional.conv_transpose2d(x, w, stride=8, padding=4, groups=21),
        (1, 21, 9, 12),
    ),
    (
        layers.ConvTranspose2d(3, 4, 64, stride=32, rng=0),
        lambda x, w, b: torch.nn.functional.conv_transpose2d(x, w, b, stride=32),
        (1, 3, 4, 5),
    ),
    (
        layers.MaxPool2d(3, 2, ceil_mode=True),
        lambda x: torch.nn.functional.max_pool2d(x, 3, 2, ceil_mode=True),
        (2, 8, 54, 55),
    ),
    (
        layers.AvgPool2d(3, 2, 1, ceil_mode=True),
        lambda x: torch.nn.functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        (2, 8, 54, 55),
    ),
    (layers.ReLU(), torch.nn.functional.relu, (2, 3, 8, 9)),
    (layers.Linear(20, 7, rng=0), torch.nn.functional.linear, (5, 20)),
    (
        layers.LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0),
        lambda x: torch.nn.functional.local_response_norm(x, 5, alpha=0.1, beta=0.75, k=2.0),
        (2, 8, 5, 6),
    ),
    (
        layers.BatchNorm2d(6),
        lambda x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, training=True),
        (3, 6, 7, 8),
    ),
    (layers.GlobalAvgPool2d(), lambda x: torch.nn.functional.adaptive_avg_pool2d(x, 1), (2, 4, 7, 9)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("layer", "function", "shape"), REAL, ids=lambda value: repr(value) if hasattr(value, "backward") else ""
)
def test_layers_as_networks_use_them(layer, function, shape, dtype):
    check_parity(layer, function, np.random.default_rng(5).standard_normal(shape), dtype)


def defaults(function):
    parameters = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


MODULES = (layers, torch.nn), (optim, torch.optim), (functional, torch.nn.functional)
SHARED = [
    pytest.param(getattr(ours, name), getattr(theirs, name), id=f"{ours.__name__}.{name}")
    for ours, theirs in MODULES
    for name in sorted(vars(ours).keys() & vars(theirs).keys())
    if inspect.isclass(getattr(theirs, name)) or inspect.isfunction(getattr(theirs, name))
]


@pytest.mark.parametrize(("ours", "theirs"), SHARED)
def test_defaults_are_those_of_pytorch(ours, theirs):
    mine, usual = defaults(ours), defaults(theirs)
    shared = mine.keys() & usual.keys() - {"align_corners"}  # `None` there, which warns and means `False`
    assert {name: mine[name] for name in shared} == {name: usual[name] for name in shared}
