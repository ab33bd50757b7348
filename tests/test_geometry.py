from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minifcn.geometry import (
    ConvGeometry,
    CoordinateMap,
    Transposed,
    Window,
    check_integer,
    coordinate_map,
    crop_offset,
    pair,
    receptive_field,
)

# Sizes, compared with windows that are placed one by one


def taps(window, index):
    """Return the input positions that one output of a convolution depends on."""
    return {index * window.stride - window.padding[0] + a * window.dilation for a in range(window.kernel)}


def count_windows(size, window):
    """Count windows from the left while they fit (rounding down) or while PyTorch's rule allows (up).

    Up: a window may reach past the padded end, if the one before did not reach that end, and if it starts
    inside the input or its leading padding.
    """
    count = 0
    while True:
        first, last = min(taps(window, count)), max(taps(window, count))
        over = last - (size + window.padding[1] - 1)
        if not (over < window.stride and first < size if window.ceil_mode else over <= 0):
            return count
        count += 1


kernels, strides, dilations, sizes = (
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 30),
)


@st.composite
def windows(draw, ceil_mode=False, max_padding=5, asymmetric=True):
    k, s, d = draw(kernels), draw(strides), draw(dilations)
    most = k // 2 if ceil_mode else max_padding  # pooling pads by at most half of its kernel
    before = draw(st.integers(0, most))
    after = draw(st.integers(0, most)) if asymmetric and draw(st.booleans()) else before
    return Window(k, s, (before, after), d, ceil_mode)


@pytest.mark.parametrize("ceil_mode", [False, True])
@given(data=st.data(), size=sizes)
def test_output_size_counts_windows(ceil_mode, data, size):
    window = data.draw(windows(ceil_mode))
    expected = count_windows(size, window)
    if expected:
        assert window.output_size(size) == expected
    else:
        with pytest.raises(ValueError, match=f"does not fit into height {size} with padding"):
            window.output_size(size, "height")


@given(window=windows(ceil_mode=True, asymmetric=False), size=sizes)
def test_ceil_mode_equals_pytorch(window, size):
    torch = pytest.importorskip("torch")
    options = {"padding": window.padding[0], "dilation": window.dilation, "ceil_mode": True}
    try:
        expected = torch.nn.functional.max_pool1d(
            torch.zeros(1, 1, size), window.kernel, window.stride, **options
        )
    except RuntimeError:
        with pytest.raises(ValueError, match="does not fit"):
            window.output_size(size)
    else:
        assert window.output_size(size) == expected.shape[2]


@given(window=windows(), outputs=st.integers(1, 12))
def test_input_size_range_is_exact(window, outputs):
    smallest, largest = window.input_size_range(outputs)
    brute = [size for size in range(1, 120) if count_windows(size, window) == outputs]
    assert list(range(smallest, largest + 1)) == brute


@given(window=windows(), size=sizes, extra=st.integers(0, 4))
def test_sizes_of_transposed_convolutions_lead_back(window, size, extra):
    transposed = Transposed(window, extra)
    if extra >= window.stride:
        with pytest.raises(ValueError, match=f"below the stride {window.stride}, got {extra}"):
            transposed.output_size(size)
        return
    # Every input reaches its taps; the padding is cut away.
    reached = max(max(taps(window, i)) for i in range(size)) + 1 - window.padding[1] + extra
    if reached < 1:
        with pytest.raises(ValueError, match=f"size {size} gives a transposed convolution of size {reached}"):
            transposed.output_size(size)
    else:
        assert transposed.output_size(size) == reached
        assert window.output_size(reached) == size


# Receptive fields, compared with sets of positions


def looks_at(layer, outputs):
    """Return the input positions that a set of outputs depends on, by trying all nearby ones."""
    if isinstance(layer, Window):
        return set().union(*(taps(layer, i) for i in outputs))
    return {i for i in range(-60, 200) if taps(layer.window, i) & outputs}


@st.composite
def chains(draw, gapless):
    """Windows and transposed ones; gapless: every output of a transposed one depends on some input."""
    chain = []
    for _ in range(draw(st.integers(0, 4))):
        window = draw(windows(max_padding=3))
        if draw(st.booleans()):
            chain.append(window)
        elif gapless:
            chain.append(Transposed(Window(window.stride + window.kernel - 1, window.stride, window.padding)))
        else:
            chain.append(Transposed(window))
    return chain


@pytest.mark.parametrize("gapless", [True, False])
@given(data=st.data(), index=st.integers(0, 3))
def test_receptive_field_is_what_an_output_depends_on(gapless, data, index):
    chain = data.draw(chains(gapless))
    seen = reduce(lambda outputs, layer: looks_at(layer, outputs), reversed(chain), {index})
    if max(map(abs, seen), default=0) > 50:
        return  # beyond what the brute force searches
    field = receptive_field(chain, index)
    assert seen <= set(field)
    if gapless:
        assert (field[0], field[-1]) == (min(seen), max(seen))


@given(st.lists(windows(), max_size=5), st.integers(0, 9))
def test_coordinates_are_the_centre_of_the_receptive_field(chain, index):
    field = receptive_field(chain, index)
    assert coordinate_map(chain)(index) == Fraction(field[0] + field[-1], 2)


def test_a_chain_may_be_an_iterator():
    chain = [Window(3), Window(2, stride=2), Transposed(Window(4, stride=2))]
    assert coordinate_map(iter(chain)) == coordinate_map(chain)
    assert receptive_field(iter(chain), 2) == receptive_field(chain, 2)


# Coordinate maps

fractions = st.fractions(-9, 9, max_denominator=8)
maps = st.builds(CoordinateMap, fractions.filter(bool), fractions)


@given(maps, maps, maps, fractions)
def test_maps_compose_as_functions_and_have_inverses(a, b, c, position):
    assert (a @ b)(position) == a(b(position))
    assert (a @ b) @ c == a @ (b @ c)
    assert a @ a.inverse() == a.inverse() @ a == CoordinateMap()
    assert a.inverse()(a(position)) == position


@given(windows(), st.integers(0, 9))
def test_a_transposed_convolution_centres_its_taps_on_an_input(window, index):
    reached = taps(window, index)
    middle = Fraction(min(reached) + max(reached), 2)
    assert Transposed(window).coordinate_map()(middle) == index


def test_maps_as_strings():
    assert str(CoordinateMap(Fraction(2), Fraction(-1, 2))) == "2 i - 1/2"
    assert str(CoordinateMap()) == "1 i + 0"


# The reference networks (Long et al. 2015), as lists of windows


def vgg16(pool, padding=100):
    """Return the layers up to pool3, pool4 and the scores."""
    conv = Window(3, padding=1)
    pool3 = [Window(3, padding=padding), conv, pool, conv, conv, pool, conv, conv, conv, pool]
    pool4 = [*pool3, conv, conv, conv, pool]
    return pool3, pool4, [*pool4, conv, conv, conv, pool, Window(7), Window(1), Window(1)]


CEIL, FLOOR = Window(2, stride=2, ceil_mode=True), Window(2, stride=2)


def up(stride):
    return Transposed(Window(2 * stride, stride=stride))


def offset(larger, reference):
    return crop_offset(coordinate_map(larger), coordinate_map(reference))


def test_crop_offsets_of_the_reference_networks():
    pool3, pool4, score = vgg16(CEIL)
    assert offset([*score, up(32)], []) == 19
    assert offset(pool4, [*score, up(2)]) == 5
    assert offset([*score, up(2), up(16)], []) == 27
    assert offset(pool3, [*score, up(2), up(2)]) == 9
    assert offset([*score, up(2), up(2), up(8)], []) == 31


def test_crop_offset_of_alexnet():
    pool, conv = Window(3, stride=2, ceil_mode=True), Window(3, padding=1)
    trunk = [Window(11, stride=4, padding=100), pool, Window(5, padding=2), pool, conv, conv, conv, pool]
    score = [*trunk, Window(6), Window(1), Window(1)]
    assert offset([*score, Transposed(Window(63, stride=32))], []) == 18
    with pytest.raises(ValueError, match="do not lie on each other"):
        offset([*score, up(32)], [])  # an even kernel puts the grid between the pixels


def size_after(chain, size):
    return reduce(lambda n, layer: layer.output_size(n), chain, size)


def covers(stride, height, pool):
    """Return whether all crops of FCN-32s, 16s or 8s lie inside the arrays that they are cut from."""
    pool3, pool4, score = vgg16(pool)
    try:
        scores, tap4, tap3 = (size_after(chain, height) for chain in (score, pool4, pool3))
    except ValueError:
        return False
    if stride == 32:
        return 19 + height <= size_after([up(32)], scores)
    scores = size_after([up(2)], scores)
    if stride == 16:
        return 5 + scores <= tap4 and 27 + height <= size_after([up(16)], scores)
    fused = size_after([up(2)], scores)
    return 5 + scores <= tap4 and 9 + fused <= tap3 and 31 + height <= size_after([up(8)], fused)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_ceil_pools_cover_every_height(stride):
    assert all(covers(stride, height, CEIL) for height in range(1, 1300))


@pytest.mark.parametrize(("stride", "failures", "voc"), [(32, 462, (375, 500)), (16, 152, (375,))])
def test_floor_pools_do_not_cover_every_height(stride, failures, voc):
    failing = [height for height in range(64, 1300) if not covers(stride, height, FLOOR)]
    assert len(failing) == failures
    assert set(voc) <= set(failing)


def test_sizes_of_the_reference_at_500():
    pool3, pool4, score = vgg16(CEIL)
    assert [size_after(chain, 500) for chain in (pool3, pool4, score)] == [88, 44, 16]
    assert size_after([*score, up(32)], 500) == 544
    assert size_after([*score, up(2), up(16)], 500) == 560
    assert size_after([*score, up(2), up(2), up(8)], 500) == 568


# Invalid values


def test_integers_and_pairs():
    assert pair(np.int64(3), "stride") == (3, 3)
    assert pair([1, np.uint8(2)], "stride") == (1, 2)
    assert type(pair(np.int64(3), "stride")[0]) is int
    assert check_integer(np.int32(4), "n", 4) == 4


@pytest.mark.parametrize(
    "value", [0, -1, 1.0, True, None, "3", (1, 2, 3), (1,), (1, 2.0), (1, 0), "12", {1, 2}]
)
def test_invalid_pairs_raise(value):
    with pytest.raises(ValueError, match=r"stride must be an integer (>= 1|or a pair)"):
        pair(value, "stride", 1)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"kernel": 0}, "kernel_size must be an integer >= 1, got 0"),
        ({"kernel": 2.0}, "kernel_size must be an integer >= 1, got 2.0"),
        ({"stride": 0}, "stride must be an integer >= 1, got 0"),
        ({"stride": -2}, "stride must be an integer >= 1, got -2"),
        ({"padding": -1}, "padding must be an integer >= 0, got -1"),
        ({"dilation": 0}, "dilation must be an integer >= 1, got 0"),
    ],
)
def test_invalid_windows_raise(numbers, message):
    with pytest.raises(ValueError, match=message):
        Window(**{"kernel": 3, **numbers})


def test_messages_name_the_values():
    with pytest.raises(
        ValueError, match=r"extent 5 \(kernel_size 3, dilation 2\) does not fit into size 2 with"
    ):
        Window(3, dilation=2, padding=1).output_size(2)
    with pytest.raises(ValueError, match="does not fit into size 0"):
        Window(1, padding=3).output_size(0)
    with pytest.raises(ValueError, match="width 0 gives a transposed"):
        Transposed(Window(9)).output_size(0, "width")
    with pytest.raises(ValueError, match="output_padding must be an integer >= 0, got -1"):
        Transposed(Window(3, stride=2), -1).output_size(4)
    with pytest.raises(ValueError, match=r"grids at 2 i \+ 1/2 and 1 i \+ 0 do not lie on each other"):
        crop_offset(FLOOR.coordinate_map(), CoordinateMap())
    with pytest.raises(ValueError, match=r"an index i of the second is index 1 i \+ 1/2 of the first"):
        crop_offset(CoordinateMap(), CoordinateMap(offset=Fraction(1, 2)))


def test_numpy_integers_do_not_overflow():
    window = Window(np.uint8(64), stride=np.uint8(32))
    assert Transposed(window).output_size(16) == 544
    assert window.output_size(544) == 16


def test_conv_geometry_has_two_axes():
    geometry = ConvGeometry.of((3, 5), stride=(1, 2), padding=[0, 2], dilation=(2, 1), groups=2)
    assert geometry == ConvGeometry(Window(3, 1, 0, 2), Window(5, 2, 2, 1), 2)
    assert geometry.output_size((9, 8)) == (5, 4)
    with pytest.raises(ValueError, match="does not fit into width 0"):
        geometry.output_size((9, 0))
    with pytest.raises(ValueError, match="does not fit into height 4 with"):
        geometry.output_size((4, 8))
    with pytest.raises(ValueError, match=r"groups must be an integer >= 1, got 0"):
        ConvGeometry.of(3, groups=0)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (2, ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([(0, 1), [2, np.int64(3)]], ((0, 1), (2, 3))),
        ((1, (2, 3)), ((1, 1), (2, 3))),
    ],
)
def test_padding_is_an_integer_a_pair_or_two_pairs(padding, expected):
    geometry = ConvGeometry.of(3, padding=padding)
    assert (geometry.rows.padding, geometry.cols.padding) == expected
    assert ConvGeometry.of(3, padding=geometry.padding) == geometry


@pytest.mark.parametrize("padding", [(), (1,), (1, 2, 3), ((0, 1), (2, 3, 4)), "12", None, (0, -1)])
def test_invalid_padding_raises(padding):
    with pytest.raises(ValueError, match="padding must be an integer"):
        ConvGeometry.of(3, padding=padding)
