"""How much memory a pass through a network takes at its peak, from what is alive at each step."""

from collections.abc import Iterable
from dataclasses import dataclass

from minifcn.models.explanation import Row

IMAGES = -1
"""The number of the step that made the images, so to speak."""


@dataclass(frozen=True)
class Step:
    """A layer at work, and what is in memory meanwhile. Arrays are named by the number of their step.

    Attributes:
        row: What the layer does.
        source: The array that it gets.
        held: Other arrays that its callers hold.
        new_bytes: Of its output; none where that is a view of its input.
        keeps: Arrays that it keeps for backward.
        extra_bytes: What it keeps besides.
        forward_bytes: Work space in forward.
        backward_bytes: Work space in backward.
        gradient_bytes: Gradients of its parameters.
        learns: Whether backward enters it.
    """

    row: Row
    source: int
    held: frozenset[int]
    new_bytes: int
    keeps: frozenset[int]
    extra_bytes: int
    forward_bytes: int
    backward_bytes: int
    gradient_bytes: int
    learns: bool


class Timeline:
    """All steps of a forward pass, in order.

    Args:
        steps: The steps.
        image_bytes: Size of the images.
    """

    def __init__(self, steps: list[Step], image_bytes: int):
        self.steps = steps
        self._sizes = {number: step.new_bytes for number, step in enumerate(steps)} | {IMAGES: image_bytes}
        self.kept = frozenset[int]().union(*(step.keeps for step in steps))

    def _sum(self, arrays: Iterable[int]) -> int:
        return sum(self._sizes[number] for number in arrays)

    def _with_gradient(self, arrays: Iterable[int]) -> set[int]:
        """Return those arrays that a layer made which backward enters."""
        return {number for number in arrays if number != IMAGES and self.steps[number].learns}

    def activation_bytes(self, number: int) -> int:
        """Return what training keeps of a step: its output, if any layer asks for it, and what is extra."""
        return self.steps[number].extra_bytes + (self._sizes[number] if number in self.kept else 0)

    def inference_bytes(self) -> int:
        """Return the peak of a forward pass that keeps nothing, without weights."""
        return max(
            self._sum({IMAGES, step.source} | step.held) + step.new_bytes + step.forward_bytes
            for step in self.steps
        )

    def training_bytes(self) -> int:
        """Return the peak of forward, loss and backward, gradients included, weights not.

        Backward undoes forward: where forward held an array, backward holds its gradient.
        """
        steps = self.steps
        scores = steps[-1].row.output_bytes
        peaks, extra = [], 0
        for number, step in enumerate(steps):
            extra += step.extra_bytes
            alive = {IMAGES, step.source} | step.held | {kept for kept in self.kept if kept < number}
            peaks.append(self._sum(alive) + extra + step.new_bytes + step.forward_bytes)
        peaks.append(self._sum({IMAGES} | self.kept) + extra + 3 * scores)  # the loss
        gradients = 0
        for number, step in reversed(list(enumerate(steps))):
            if step.learns:
                gradients += step.gradient_bytes
                alive = {IMAGES} | {kept for kept in self.kept if kept <= number}
                maps = step.row.output_bytes + self._sum(self._with_gradient({step.source} | step.held))
                peaks.append(self._sum(alive) + extra + 2 * scores + maps + step.backward_bytes + gradients)
            extra -= step.extra_bytes
        return max(peaks)
