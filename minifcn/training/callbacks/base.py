"""The base class of callbacks."""

from minifcn.training.state import Training


class Callback:
    """Something that `fit` calls during a training, such as `Checkpoints` or `Watch`.

    A subclass overrides the methods that it needs. An exception in one of them ends the training.

    Example:
        >>> class Patience(Callback):
        ...     def epoch(self, training):
        ...         if training.records[-1]["loss"] > training.records[0]["loss"]:
        ...             raise ValueError("the loss has risen")
    """

    def start(self, training: Training) -> None:
        """Called once before the first step; here an earlier training can be restored."""

    def step(self, training: Training) -> None:
        """Called after each update."""

    def epoch(self, training: Training) -> None:
        """Called after each epoch and its evaluation; its record is the last one of `training.records`."""
