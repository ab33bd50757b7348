"""What belongs to a network besides its weights: classes, colours, and how images become its input."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Self

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional.operands import check_class_names
from minifcn.geometry import check_integer
from minifcn.palette import palette

CHANNELS = {"L": 1, "RGB": 3, "BGR": 3}


def _as_tuple(values: Any, name: str, convert: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Return numbers of any type and container as a tuple of Python's own, which a file can hold."""
    try:
        if isinstance(values, str) or any(isinstance(value, str) for value in values):
            raise TypeError
        return tuple(convert(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be numbers, got {str(values)[:50]!r}") from None


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 images (N, H, W, C) become network input (N, C, H, W): (image - mean) / std.

    Bit depth and bands say how the uint8 image is made from the pixels of a file; `minifcn.data` applies
    them when it reads the file, and calling a `Preprocessing` does not.

    Attributes:
        channels: Order of the channels that the network takes: "RGB", "BGR" or "L" (grey). Images are RGB or
            grey.
        mean: Subtracted, one value per channel in that order, in units of 0 to 255.
        std: Divided by, likewise.
        bit_depth: Bits of the pixels in the files, 8 to 16; 0 to 2 ** bit_depth - 1 becomes 0 to 255. One
            for all images of a network, even if some of them are dark.
        bands: Which bands of a file become the channels of the image (R, G, B or grey), counted from 0, for
            example (3, 2, 1). `None` for files that have just these channels.

    Raises:
        ValueError: If the channels are unknown, the numbers do not match them, or a value is out of range.

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
    bit_depth: int = 8
    bands: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        count = CHANNELS.get(self.channels)
        if count is None:
            raise ValueError(
                f"channels must be one of {', '.join(CHANNELS)}, got {str(self.channels)[:50]!r}"
            )
        for name in ("mean", "std"):
            values = _as_tuple(getattr(self, name), name, float)
            if len(values) != count or not all(map(math.isfinite, values)):
                raise ValueError(
                    f"{name} must be {count} finite number(s) for channels {self.channels}, "
                    f"got {str(values)[:50]}"
                )
            object.__setattr__(self, name, values)  # the way to set a field of a frozen dataclass
        if min(self.std) <= 0:
            raise ValueError(f"every std must be positive, got {self.std}")
        object.__setattr__(self, "bit_depth", check_integer(self.bit_depth, "bit_depth", 8))
        if self.bit_depth > 16:
            raise ValueError(f"bit_depth must be at most 16, got {self.bit_depth}")
        if self.bands is not None:
            bands = _as_tuple(self.bands, "bands", operator.index)
            if len(bands) != count or min(bands) < 0:
                raise ValueError(
                    f"bands must be {count} integer(s) >= 0 for channels {self.channels}, "
                    f"got {str(bands)[:50]}"
                )
            object.__setattr__(self, "bands", bands)

    def __call__(self, images: Array) -> Array:
        """Return float32 (N, C, H, W) for uint8 (N, H, W, C).

        Raises:
            TypeError: If the images are not uint8.
            ValueError: If they have another number of axes or channels.
        """
        xp = array_module(images=images)
        if images.dtype != xp.uint8:
            raise TypeError(f"images must be uint8 from 0 to 255, got {images.dtype}")
        if images.ndim != 4 or images.shape[3] != len(self.mean):
            raise ValueError(
                f"images must be (N, H, W, {len(self.mean)}) for channels {self.channels}, got {images.shape}"
            )
        if self.channels == "BGR":
            images = images[..., ::-1]
        x: Array = xp.empty((len(images), images.shape[3], *images.shape[1:3]), xp.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            x[:, channel] = (images[..., channel] - xp.float32(mean)) / xp.float32(std)
        return x


@dataclass(frozen=True)
class ModelInfo:
    """The names of the classes, a colour for each, and the preprocessing.

    Attributes:
        class_names: In the order of the scores.
        preprocessing: How images become input.
        colors: (R, G, B) for each class; chosen by `minifcn.palette` unless given.

    Raises:
        ValueError: If names are not texts, or colours are not three integers from 0 to 255 for each of them.

    Example:
        >>> info = ModelInfo(("cat", "dog"), Preprocessing("L", (128.0,), (64.0,)))
        >>> from dataclasses import asdict
        >>> ModelInfo.from_dict(asdict(info)) == info
        True
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    colors: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        names = check_class_names(self.class_names)
        colors = tuple(_as_tuple(color, "each colour", operator.index) for color in self.colors)
        if len(colors) == 0:
            different = [tuple(map(int, color)) for color in palette(min(len(names), 255))]
            colors = tuple(islice(cycle(different), len(names)))  # ImageNet has more classes than labels have
        if len(colors) != len(names):
            raise ValueError(f"{len(names)} class names but {len(colors)} colours")
        for color in colors:
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise ValueError(f"each colour must be three integers from 0 to 255, got {str(color)[:50]}")
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "colors", colors)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the info from nested dictionaries, as `dataclasses.asdict` makes them and files hold them.

        Raises:
            ValueError: If entries are missing, unknown or malformed.
        """
        try:
            preprocessing = Preprocessing(**values["preprocessing"])
            return cls(**{**values, "preprocessing": preprocessing})
        except (KeyError, TypeError) as error:
            raise ValueError(f"the info does not fit: {str(error)[:200]}") from error

    @property
    def palette(self) -> Array:
        """The colours as uint8 (classes, 3)."""
        return np.array(self.colors, np.uint8)
