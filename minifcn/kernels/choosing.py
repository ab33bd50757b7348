"""Which algorithm computes one of the three maps of convolution: the one asked for, or the fastest.

To add one, write a module in `minifcn/kernels/` and enter it in the table below.
"""

from math import prod
from types import ModuleType
from typing import Any

from minifcn.backend import Array
from minifcn.geometry import ConvGeometry
from minifcn.kernels import blocks, im2col, loops, polyphase, winograd

_ALGORITHMS: dict[str, dict[str, ModuleType]] = {
    "conv2d": {"im2col": im2col, "blocks": blocks, "winograd": winograd, "loops": loops},
    "conv2d_input_grad": {"polyphase": polyphase, "im2col": im2col, "winograd": winograd, "loops": loops},
    "conv2d_weight_grad": {"im2col": im2col, "blocks": blocks, "winograd": winograd, "loops": loops},
}

SMALL_SUM = 1 << 17
"""So many weights may be summed up by several cores, each for itself, and then once more."""

MANY_IMAGES = 8
SMALL_IMAGE = 1 << 14
"""Of so many images, so many numbers more to copy are worth a step less for each image."""


def algorithms_for(operation: str, geometry: ConvGeometry | None = None) -> tuple[str, ...]:
    """Return the names that `algorithm=` may have for an operation.

    Args:
        operation: `"conv2d"`, `"conv2d_input_grad"` or `"conv2d_weight_grad"`.
        geometry: Leave out the algorithms that are not for such convolutions.

    Example:
        >>> algorithms_for("conv2d_input_grad")
        ('polyphase', 'im2col', 'winograd', 'loops')
        >>> algorithms_for("conv2d", ConvGeometry.of(kernel_size=5))
        ('im2col', 'blocks', 'loops')
    """
    return tuple(
        name
        for name, algorithm in _ALGORITHMS[operation].items()
        if geometry is None or not hasattr(algorithm, "fits") or algorithm.fits(geometry)
    )


def compute(operation: str, algorithm: str, shape: tuple[int, ...], *operands: Any) -> Any:
    """Run an operation by the algorithm that was asked for, or by the best one for this shape of w."""
    first, _, geometry, *_ = operands
    if algorithm == "auto":
        algorithm = best(operation, first, shape, geometry)
    elif algorithm not in (offered := algorithms_for(operation, geometry)):
        raise ValueError(
            f"algorithm for {operation} must be one of {', '.join(('auto', *offered))}, got {algorithm!r}"
        )
    return getattr(_ALGORITHMS[operation][algorithm], operation)(*operands)


def best(operation: str, first: Array, shape: tuple[int, ...], geometry: ConvGeometry) -> str:
    """Return the algorithm that "auto" means for a first operand x or dy, and the shape of w."""
    filters, channels, *kernel = shape
    if first.dtype == "float32" and winograd.fits(geometry):
        # What a tile of 4 x 4 outputs takes, in nanoseconds of a core, by measurement: with the columns of
        # im2col, and with the transforms of Winograd. For each filter and channel, transforming the filters
        # takes 14 more, and where tiles are few, all that does not depend on their number takes 50.
        per_channel, per_filter = {"conv2d": (44, 27), "conv2d_input_grad": (27, 44)}.get(operation, (44, 25))
        products = filters * channels
        columns = 43 * min(channels, filters) + 2.0 * products
        saved = columns - (per_channel * channels + per_filter * filters + 0.6 * products)
        tiles = len(first) * first.shape[2] * first.shape[3] / 16
        few = winograd.has_few_tiles(tiles, filters, channels)
        # From some tiles on that are not few there is a strip of them for each core.
        if (few or tiles > 128) and tiles * saved > (50 if few else 14) * products:
            return "winograd"
    if operation != "conv2d_input_grad":
        few_sums = operation == "conv2d" or prod(shape) <= SMALL_SUM
        return "blocks" if few_sums and _blocks_save(shape, geometry) else "im2col"
    # There are two ways: gather the windows of dy, phase by phase, or scatter the columns of dx. What is
    # copied again and again should have the fewer channels. Scattering needs no filters turned around, but
    # takes many small steps where there are many small images. The limits are measurements.
    filters, taps = filters // geometry.groups, kernel[0] * kernel[1]
    if geometry.rows.stride == geometry.cols.stride == 1:
        more = (filters - channels) * first.shape[2] * first.shape[3]
        scatter = taps > 1 and more >= (SMALL_IMAGE if len(first) > MANY_IMAGES else 0)
    else:
        gathered = filters * prod(blocks.taps(geometry))
        scatter = gathered > max(polyphase.FEW_PRODUCTS, 0.4 * channels * taps)
    return "im2col" if scatter else "polyphase"


def _blocks_save(shape: tuple[int, ...], geometry: ConvGeometry) -> bool:
    """Return whether blocks are less work than columns, counted for one output of each filter of a group."""
    if not blocks.fits(geometry):
        return False
    filters, channels, kernel = shape[0] // geometry.groups, shape[1], shape[2] * shape[3]
    block = geometry.rows.stride * geometry.cols.stride
    taps = prod(blocks.taps(geometry))
    # Numbers that are copied, and multiplications, sixteen of which take about as long.
    columns = kernel * channels * (1 + filters / 16)
    return columns > 1.1 * (block * channels + 2 * taps * filters + taps * block * channels * filters / 16)
