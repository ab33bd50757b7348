"""What belongs to a network besides its weights: classes, colours, and how images become its input."""

from dataclasses import dataclass, field
from itertools import cycle, islice

import numpy as np

from minifcn.backend import Array
from minifcn.palette import palette

CHANNELS = {"L": 1, "RGB": 3, "BGR": 3}


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 images (N, H, W, C) become network input (N, C, H, W): (image - mean) / std.

    Attributes:
        channels: Order of the channels that the network takes: "RGB", "BGR" or "L" (grey). Images are RGB or
            grey.
        mean: Subtracted, one number a channel in that order, in units of 0 to 255.
        std: Divided by, likewise.

    Raises:
        ValueError: If the channels are unknown, the numbers do not match them, or a std is not positive.

    Example:
        >>> import numpy as np
        >>> grey = Preprocessing("L", mean=(128.0,), std=(64.0,))
        >>> grey(np.full((1, 2, 2, 1), 192, np.uint8))
        array([[[[1., 1.],
                 [1., 1.]]]], dtype=float32)
    """

    channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        count = CHANNELS.get(self.channels)
        if count is None:
            raise ValueError(f"channels must be one of {', '.join(CHANNELS)}, got {self.channels!r}")
        if not len(self.mean) == len(self.std) == count:
            raise ValueError(
                f"channels {self.channels} need {count} means and {count} stds, got {len(self.mean)} and "
                f"{len(self.std)}"
            )
        if not (np.isfinite([*self.mean, *self.std]).all() and min(self.std) > 0):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite, and every std positive")

    def __call__(self, images: Array) -> Array:
        """Return float32 (N, C, H, W) for uint8 (N, H, W, C).

        Raises:
            TypeError: If the images are not uint8.
            ValueError: If they have another number of axes or channels.
        """
        if images.dtype != np.uint8:
            raise TypeError(f"images must be uint8 from 0 to 255, got {images.dtype}")
        if images.ndim != 4 or images.shape[3] != len(self.mean):
            raise ValueError(
                f"images must be (N, H, W, {len(self.mean)}) for channels {self.channels}, got {images.shape}"
            )
        if self.channels == "BGR":
            images = images[..., ::-1]
        x = np.empty((len(images), images.shape[3], *images.shape[1:3]), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            x[:, channel] = (images[..., channel] - np.float32(mean)) / np.float32(std)
        return x


@dataclass(frozen=True)
class ModelInfo:
    """The names of the classes, a colour for each, and the preprocessing.

    Attributes:
        class_names: In the order of the scores.
        preprocessing: How images become input.
        colors: (R, G, B) for each class; chosen by `minifcn.palette` unless given.

    Raises:
        ValueError: If the number of colours is not the number of names.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    colors: tuple[tuple[int, int, int], ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.colors:
            count = len(self.class_names)
            different = [(int(r), int(g), int(b)) for r, g, b in palette(min(count, 255))]
            chosen = tuple(islice(cycle(different), count))  # ImageNet has more classes than labels have
            object.__setattr__(self, "colors", chosen)  # the way to set a field of a frozen dataclass
        if len(self.colors) != len(self.class_names):
            raise ValueError(f"{len(self.class_names)} class names but {len(self.colors)} colours")

    @property
    def palette(self) -> Array:
        """The colours as uint8 (classes, 3)."""
        return np.array(self.colors, np.uint8)
