"""What layers with a sliding window share."""

from operator import attrgetter

from minifcn.geometry import ConvGeometry
from minifcn.layers.base import Layer
from minifcn.layers.cost import Reach


class WindowLayer(Layer):
    """A layer whose window slides over the image; its attribute `geometry` holds the window.

    `kernel_size`, `stride`, `padding`, `dilation`, `groups` and `ceil_mode` are read from it. To change one,
    replace the geometry: `layer.geometry = layer.geometry.replace(padding=1)`.

    Example:
        >>> from minifcn.layers import MaxPool2d
        >>> pool = MaxPool2d(3, stride=2)
        >>> pool.geometry = pool.geometry.replace(padding=1)
        >>> pool.stride, pool.padding
        ((2, 2), (1, 1))
    """

    geometry: ConvGeometry

    kernel_size = property(attrgetter("geometry.kernel_size"), doc="(KH, KW).")
    stride = property(attrgetter("geometry.stride"), doc="(rows, columns).")
    padding = property(
        attrgetter("geometry.padding"),
        doc="(rows, columns), or ((top, bottom), (left, right)) where the two ends of an axis differ.",
    )
    dilation = property(attrgetter("geometry.dilation"), doc="(rows, columns).")
    groups = property(attrgetter("geometry.groups"), doc="Number of groups of channels.")
    ceil_mode = property(attrgetter("geometry.ceil_mode"), doc="Whether the output size is rounded up.")

    def reach(self) -> Reach:
        """Return the windows of rows and columns."""
        return self.geometry.rows, self.geometry.cols
