"""What layers with a sliding window share."""

from minifcn.geometry import ConvGeometry, Sides
from minifcn.layers.base import Layer
from minifcn.layers.cost import Reach


class WindowLayer(Layer):
    """A layer whose window slides over the image; its attribute `geometry` holds the window.

    `kernel_size`, `stride`, `padding`, `dilation`, `groups` and `ceil_mode` are read from it. To change one,
    replace the geometry: `layer.geometry = layer.geometry.replace(padding=1)`.
    """

    geometry: ConvGeometry

    @property
    def kernel_size(self) -> tuple[int, int]:
        """(KH, KW)."""
        return self.geometry.kernel_size

    @property
    def stride(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.geometry.stride

    @property
    def padding(self) -> tuple[int, int] | Sides:
        """(rows, columns), or ((top, bottom), (left, right)) where the two ends of an axis differ."""
        return self.geometry.padding

    @property
    def dilation(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.geometry.dilation

    @property
    def groups(self) -> int:
        """Number of groups of channels."""
        return self.geometry.groups

    @property
    def ceil_mode(self) -> bool:
        """Whether the output size is rounded up."""
        return self.geometry.ceil_mode

    def reach(self) -> Reach:
        """Return the windows of rows and columns."""
        return self.geometry.rows, self.geometry.cols


def described(geometry: ConvGeometry) -> str:
    """Return the arguments of a window as a layer's repr shows them, without those at their defaults."""
    usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "ceil_mode": False}
    words = [f"kernel_size={geometry.kernel_size}"]
    words += [
        f"{name}={getattr(geometry, name)}"
        for name, value in usual.items()
        if getattr(geometry, name) != value
    ]
    return ", ".join(words)
