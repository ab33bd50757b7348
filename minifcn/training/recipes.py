"""Recipes: reduction, learning rate and momentum bound together.

A learning rate depends on the scale of the loss: for an image of 500 x 375, a rate of 1e-10 on the sum over
pixels equals one of 1.9e-5 on their mean. So a recipe binds a rate to its reduction, and refuses a rate that
fits the other one. The values are those of Long, Shelhamer & Darrell (2015), of Shelhamer et al. (2017) and
of the reference code.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from minifcn.layers import Layer
from minifcn.losses import Reduction
from minifcn.models import FCN
from minifcn.optim import SGD, Adam, Constant, Optimizer, Poly, Schedule

_LARGEST_RATE = 0.1
_SMALLEST_RATE = 5e-9
"""Rates on the mean over pixels outside of this range are taken for rates on a sum, or the reverse."""


@dataclass(frozen=True)
class Recipe:
    """Settings of the optimisation that belong together.

    Attributes:
        name: Its key in `RECIPES`.
        purpose: When to use it, in a few words.
        lr: Learning rate for a network that starts from a classifier.
        method: "adam" or "sgd".
        reduction: How the loss, and so the rate, is averaged.
        batch_size: Images in a batch.
        accumulate: Batches in a step.
        momentum: Momentum of SGD.
        weight_decay: Factor of the L2 penalty.
        score_rate: Factor of the rate of score layers, which begin at zero.
        bias_rate: Factor of the rate of biases.
        bias_decay: Factor of the weight decay of biases.
        schedule: "poly" (power .9, down to 0 at the last step) or "constant".
        warmup: Steps of the linear warm-up of "poly", at most a third of all steps.
        per_skip: Factor of the rate for each skip of a network that starts from a coarser one.
        staged: Whether a network with skips must start from a coarser one.

    Example:
        >>> from minifcn.models import digit_classifier
        >>> fcn = FCN(digit_classifier(), 11, 8)
        >>> heavy = RECIPES["heavy"]
        >>> heavy.optimizer(fcn).lr, heavy.optimizer(fcn.finer(), staged=True).lr
        (1e-10, 1e-12)
    """

    name: str
    purpose: str
    lr: float
    method: Literal["adam", "sgd"] = "sgd"
    reduction: Reduction = "sum"
    batch_size: int = 1
    accumulate: int = 1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    score_rate: float = 1.0
    bias_rate: float = 2.0
    bias_decay: float = 0.0
    schedule: Literal["poly", "constant"] = "constant"
    warmup: int = 0
    per_skip: float = 0.01
    staged: bool = True

    def changed(
        self, *, lr: float | None = None, batch_size: int | None = None, accumulate: int | None = None
    ) -> "Recipe":
        """Return the recipe with other values.

        A given rate is used as it is, for any number of skips. With larger batches, fewer of them are
        accumulated, to keep the number of images in a step, unless `accumulate` is given.
        """
        changes: dict[str, Any] = {}
        if lr is not None:
            changes |= {"lr": lr, "per_skip": 1.0, "staged": False}
        if batch_size is not None:
            changes |= {"batch_size": batch_size, "accumulate": max(1, self.accumulate // batch_size)}
        if accumulate is not None:
            changes["accumulate"] = accumulate
        return replace(self, **changes)

    def optimizer(self, model: Layer, *, staged: bool = False) -> Optimizer:
        """Set the multipliers of a network's parameters, and return an optimiser for it.

        Args:
            model: The network.
            staged: Whether it starts from a trained network of a coarser stride, or of the same.

        Raises:
            ValueError: If the network has skips, and the recipe's rate is for one that starts from a trained
                coarser network.
        """
        skips, at_once = (len(model.skips), model.at_once) if isinstance(model, FCN) else (0, False)
        if skips and self.staged and not staged and not at_once:
            raise ValueError(
                f"recipe {self.name!r} trains one stride after the other, this network has {skips} skips: "
                f"start from a trained network of the next coarser stride, make it at once, or take recipe "
                f"'quick' or a learning rate of your own, which train all strides together"
            )
        lr = self.lr * (1.0 if at_once or not staged else self.per_skip**skips)
        scores = model.score_layers() if isinstance(model, FCN) else []
        faster = {id(parameter) for layer in scores for parameter in layer.parameters()}
        for name, parameter in model.named_parameters():
            bias = name.rpartition(".")[2] == "bias"
            score_rate = self.score_rate if id(parameter) in faster else 1.0
            parameter.lr_multiplier = score_rate * (self.bias_rate if bias else 1.0)
            parameter.decay_multiplier = self.bias_decay if bias else 1.0
        if self.method == "adam":
            return Adam(model, lr, weight_decay=self.weight_decay)
        return SGD(model, lr, self.momentum, weight_decay=self.weight_decay)

    def schedule_of(self, epochs: int, batches: int) -> Schedule:
        """Return the schedule for a number of epochs, and of batches in each."""
        steps = epochs * -(-batches // self.accumulate)
        if self.schedule == "poly":
            return Poly(steps, 0.9, warmup_steps=min(self.warmup, steps // 3))
        return Constant()

    def rate_on_mean(self, lr: float, pixels: int) -> float:
        """Return the rate on the mean over pixels that equals a rate of this recipe.

        Args:
            lr: The rate.
            pixels: Labelled pixels of one image.

        Example:
            >>> f"{RECIPES['heavy'].rate_on_mean(1e-10, 500 * 375):.1e}"
            '1.9e-05'
        """
        images = self.batch_size * self.accumulate
        return lr * {"mean": 1.0, "batch": float(pixels), "sum": float(pixels * images)}[self.reduction]

    def check_rate(self, lr: float, pixels: int) -> None:
        """Refuse a rate that fits another reduction.

        Args:
            lr: The rate.
            pixels: About the number of labelled pixels in an image.

        Raises:
            ValueError: With both rates and the number of pixels.
        """
        on_mean = self.rate_on_mean(lr, pixels)
        if self.reduction == "mean":
            if lr < _SMALLEST_RATE:
                raise ValueError(
                    f"lr {lr:.1e} fits a loss summed over pixels; recipe {self.name!r} uses the mean, where "
                    f"it is too small to learn: for {pixels:,} pixels, take {lr * pixels:.1e}"
                )
        elif self.method == "sgd" and on_mean > _LARGEST_RATE:
            raise ValueError(
                f"lr {lr:.1e} fits a mean over pixels; recipe {self.name!r} uses the sum, where it equals a "
                f"rate of {on_mean:.1e} on the mean for {pixels:,} pixels: take {lr * lr / on_mean:.1e}"
            )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="quick",
            purpose="Adam, mean over pixels, all strides together: good results in few epochs",
            method="adam",
            lr=2e-4,
            reduction="mean",
            batch_size=4,
            weight_decay=1e-4,
            score_rate=5.0,
            bias_rate=1.0,
            bias_decay=1.0,
            schedule="poly",
            warmup=100,  # without it, Adam's large first steps make the scores jump
            per_skip=1.0,
            staged=False,
        ),
        Recipe(
            name="online",
            purpose="one image per step, momentum .9, sum over pixels: effectively the rate of heavy",
            lr=1e-9,
        ),
        Recipe(
            name="accumulated",
            purpose="20 images per step, momentum .9, mean over pixels, as in the conference paper",
            lr=1e-4,
            reduction="mean",
            accumulate=20,
        ),
        Recipe(
            name="heavy",
            purpose="one image per step, momentum .99, sum over pixels, as in the reference code",
            lr=1e-10,
            momentum=0.99,
        ),
    )
}
"""The recipes by name."""
