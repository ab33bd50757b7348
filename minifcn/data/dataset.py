"""What a dataset is: labelled images, asked for one at a time."""

from typing import Protocol

from minifcn.backend import Array


class Dataset(Protocol):
    """Anything with a length, items, class names and a palette.

    A class of one's own need not inherit from this one; it only has to have these members. Whoever asks for
    the same index again gets the same item, from several threads at once too.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes; label k means `class_names[k]`."""
        ...

    @property
    def palette(self) -> Array:
        """Colours of the classes, uint8 (K, 3), RGB."""
        ...

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Array, Array]:
        """Return item `index`, counted from 0.

        Returns:
            The image, uint8 (H, W, C), and its labels: uint8 (H, W) with 255 for void, or, where the image as
            a whole has one class, a uint8 array of shape ().

        Raises:
            IndexError: If there is no such item.
        """
        ...
