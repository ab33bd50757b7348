"""How much memory a pass through a network takes at its peak, from which arrays are alive at each step."""

from collections.abc import Iterable
from dataclasses import dataclass, field

IMAGES = 0
"""The number of the array that holds the images."""

SMALL = 1 << 20
"""Bytes added to each peak for Python's objects and arrays that are smaller than maps."""


@dataclass
class Step:
    """One operation of a forward pass. Arrays are identified by numbers; a view has the number of its base.

    Attributes:
        inputs: Arrays that it reads.
        output: Array that it makes, or the one that it writes over.
        keeps: Arrays that it keeps for backward.
        extra_bytes: What it keeps besides.
        forward_bytes: Temporary arrays in forward.
        backward_bytes: Temporary arrays in backward.
        gradient_bytes: Gradients of its parameters.
        learns: Whether backward passes through it.
        held: Arrays that the callers of forward hold meanwhile.
        gradients_held: Arrays whose gradients the callers of backward hold meanwhile.
    """

    inputs: tuple[int, ...]
    output: int
    keeps: frozenset[int] = frozenset()
    extra_bytes: int = 0
    forward_bytes: int = 0
    backward_bytes: int = 0
    gradient_bytes: int = 0
    learns: bool = True
    held: frozenset[int] = frozenset()
    gradients_held: set[int] = field(default_factory=set)


class Timeline:
    """All steps of a forward pass, in order.

    Args:
        steps: The steps.
        sizes: The bytes of each array, by its number.
    """

    def __init__(self, steps: list[Step], sizes: list[int]):
        self.steps, self.sizes = steps, sizes
        self._made: dict[int, int] = {}
        self._last_read: dict[int, int] = {}
        for number, step in enumerate(steps):
            self._made.setdefault(step.output, number)
            self._last_read |= dict.fromkeys((*step.inputs, step.output), number)
        self._learns = {array for array, number in self._made.items() if steps[number].learns}

    def _sum(self, arrays: Iterable[int]) -> int:
        return sum(self.sizes[array] for array in arrays)

    def _waiting(self, number: int) -> set[int]:
        """Return the arrays that are made before a step and read after it."""
        return {a for a, made in self._made.items() if made < number < self._last_read[a]}

    def activation_bytes(self, number: int) -> int:
        """Return what training keeps of a step: its output, if any step keeps that, and what is extra."""
        step = self.steps[number]
        kept = self._made[step.output] == number and any(step.output in other.keeps for other in self.steps)
        return step.extra_bytes + (self.sizes[step.output] if kept else 0)

    def inference_bytes(self) -> int:
        """Return the peak of a forward pass that keeps nothing, without weights."""
        return SMALL + max(
            self._sum({IMAGES, step.output, *step.inputs} | step.held | self._waiting(number))
            + step.forward_bytes
            + step.extra_bytes  # made in any case, if only for the moment
            for number, step in enumerate(self.steps)
        )

    def training_bytes(self) -> int:
        """Return the peak of forward, loss and backward, gradients of parameters included, weights not.

        Backward mirrors forward: while an array waits for its readers in forward, its gradient waits in
        backward for the step that made it.
        """
        kept: set[int] = {IMAGES}
        extra = gradients = 0
        scores = self.sizes[self.steps[-1].output]
        peaks, kept_before = [], []
        for number, step in enumerate(self.steps):
            kept |= step.keeps
            kept_before.append(frozenset(kept))
            extra += step.extra_bytes
            alive = {step.output, *step.inputs} | step.held | self._waiting(number) | kept
            peaks.append(self._sum(alive) + extra + step.forward_bytes)
        peaks.append(self._sum(kept) + extra + 3 * scores)  # the loss
        for number, step in reversed(list(enumerate(self.steps))):
            if step.learns:
                gradients += step.gradient_bytes
                inputs = {array for array in step.inputs if array in self._learns}
                alive = {step.output} | inputs | (self._waiting(number) & self._learns)
                alive |= step.gradients_held
                # Of an array with several readers, this step's gradient is added to that of the others.
                sums = 2 * self._sum(a for a in inputs if self._last_read[a] > number and a != step.output)
                peaks.append(
                    self._sum(kept_before[number])
                    + self._sum(alive)
                    + sums
                    + 2 * scores  # the caller holds them and their gradient
                    + extra
                    + step.backward_bytes
                    + gradients
                )
            extra -= step.extra_bytes
        return SMALL + max(peaks)
