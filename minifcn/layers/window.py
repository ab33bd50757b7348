"""What layers with a sliding window share."""

from operator import attrgetter

from minifcn.geometry import ConvGeometry, Transposed, Window
from minifcn.layers.base import Layer, Shape, check_image_shape


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
    in_channels: int | None = None  # any
    out_channels: int | None = None  # as many as the input

    kernel_size = property(attrgetter("geometry.kernel_size"), doc="(KH, KW).")
    stride = property(attrgetter("geometry.stride"), doc="(rows, columns).")
    padding = property(
        attrgetter("geometry.padding"),
        doc="(rows, columns), or ((top, bottom), (left, right)) where the two ends of an axis differ.",
    )
    dilation = property(attrgetter("geometry.dilation"), doc="(rows, columns).")
    groups = property(attrgetter("geometry.groups"), doc="Number of groups of channels.")
    ceil_mode = property(attrgetter("geometry.ceil_mode"), doc="Whether the output size is rounded up.")

    def reach(self) -> tuple[Window, Window] | tuple[Transposed, Transposed]:
        """Return the windows of rows and columns."""
        return self.geometry.rows, self.geometry.cols

    def output_shape(self, shape: Shape) -> Shape:
        """Return (O, OH, OW) for (C, H, W)."""
        check_image_shape(self, shape, self.in_channels)
        rows, cols = self.reach()
        channels, height, width = shape
        size = rows.output_size(height, "height"), cols.output_size(width, "width")
        return (self.out_channels or channels, *size)
