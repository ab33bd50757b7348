"""Functions of single elements: each layer writes down its function and the derivative."""

import math
from typing import Any

import numpy as np

from minifcn.backend import Array, array_module
from minifcn.functional import relu, relu_grad
from minifcn.functional.operands import check_float, check_number
from minifcn.geometry import check_integer
from minifcn.kernels.threads import flat_chunks, parallel_map
from minifcn.layers.base import Pointwise, Shape
from minifcn.layers.cost import Cost
from minifcn.layers.parameter import Parameter


class Activation(Pointwise):
    """A function of each element. A subclass writes `function` and `derivative`.

    `from_output` says whether the derivative is computed from the output instead of the input. Only then may
    a layer be `inplace`: it writes the output over the input, and in `backward` the gradient over the output.

    Example:
        >>> import numpy as np
        >>> class Square(Activation):
        ...     def function(self, xp, x):
        ...         return x * x
        ...     def derivative(self, xp, x):
        ...         return 2 * x
        >>> square = Square()
        >>> square(np.array([3.0])), square.backward(np.array([1.0]))
        (array([9.]), array([6.]))
    """

    from_output = False
    inplace = False

    def function(self, xp: Any, x: Array) -> Any:
        """Return the output for x; `xp` is NumPy or CuPy."""
        raise NotImplementedError(f"{type(self).__name__} has no function")

    def derivative(self, xp: Any, kept: Array) -> Any:
        """Return the derivative, from the output if `from_output`, otherwise from the input."""
        raise NotImplementedError(f"{type(self).__name__} has no derivative")

    def forward(self, x: Array) -> Array:
        """Return the function of each element."""
        xp = check_float(x=x)
        y: Array = x if self.inplace else xp.empty_like(x)
        parallel_map(lambda part: xp.copyto(part[1], self.function(xp, part[0])), flat_chunks(x, y), xp)
        self.keep(y if self.from_output else x, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy times the derivative."""
        (kept,) = self.recall(dy)
        xp = array_module(dy=dy)
        dx: Array = kept if self.inplace else xp.empty_like(dy)

        def multiply(part: tuple[Array, ...]) -> None:
            xp.multiply(part[0], self.derivative(xp, part[1]), out=part[2])

        parallel_map(multiply, flat_chunks(dy, kept, dx), xp)
        return dx

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: input or output is kept."""
        return Cost(
            keeps_input=not self.from_output, keeps_output=self.from_output, reuses_input=self.inplace
        )

    def overwrites_input(self) -> bool:
        """Return `inplace`."""
        return self.inplace


class ReLU(Activation):
    """max(x, 0), element by element.

    Args:
        inplace: Write the output over the input, and in `backward` the gradient over the output. This saves
            memory and time where nothing else needs them, as after a convolution.

    Example:
        >>> import numpy as np
        >>> ReLU()(np.array([-1.0, 2.0]))
        array([0., 2.])
    """

    from_output = True

    def __init__(self, *, inplace: bool = False):
        self.inplace = inplace

    def forward(self, x: Array) -> Array:
        """Return max(x, 0)."""
        y = relu(x, out=x if self.inplace else None)
        self.keep(y, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy where the output was positive."""
        (y,) = self.recall(dy)
        return relu_grad(dy, y, out=y if self.inplace else None)


class Hardtanh(Activation):
    """Limit each element to a range; the gradient is 0 at the limits and beyond.

    Args:
        min_val: The smallest output; `None` for no limit.
        max_val: The largest output; `None` for no limit.
        inplace: Write the output over the input, and in `backward` the gradient over the output.

    Raises:
        ValueError: If `min_val` is not below `max_val`.

    Example:
        >>> import numpy as np
        >>> Hardtanh(-1, 2)(np.array([-3.0, 0.5, 3.0]))
        array([-1. ,  0.5,  2. ])
    """

    from_output = True

    def __init__(self, min_val: float | None = -1.0, max_val: float | None = 1.0, *, inplace: bool = False):
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace
        self._low = -math.inf if min_val is None else float(min_val)
        self._high = math.inf if max_val is None else float(max_val)
        if not self._low < self._high:
            raise ValueError(f"min_val must be below max_val, got {min_val} and {max_val}")

    def function(self, xp: Any, x: Array) -> Any:
        """Return x within the limits."""
        return xp.clip(x, self._low, self._high)

    def derivative(self, xp: Any, y: Array) -> Any:
        """Return 1 between the limits, 0 elsewhere."""
        return (y > self._low) & (y < self._high)


class ReLU6(Hardtanh):
    """min(max(x, 0), 6), element by element.

    Args:
        inplace: Write the output over the input, and in `backward` the gradient over the output.

    Example:
        >>> import numpy as np
        >>> ReLU6()(np.array([-1.0, 2.0, 7.0]))
        array([0., 2., 6.])
    """

    def __init__(self, *, inplace: bool = False):
        super().__init__(0.0, 6.0, inplace=inplace)


class LeakyReLU(Activation):
    """x where x is positive, `negative_slope` * x elsewhere.

    Args:
        negative_slope: The slope.

    Raises:
        ValueError: If it is not a finite number.

    Example:
        >>> import numpy as np
        >>> LeakyReLU(0.25)(np.array([-4.0, 2.0]))
        array([-1.,  2.])
    """

    def __init__(self, negative_slope: float = 0.01):
        check_number(negative_slope, "negative_slope")
        self.negative_slope = negative_slope

    def function(self, xp: Any, x: Array) -> Any:
        """Return x or slope * x."""
        return x * self.derivative(xp, x)

    def derivative(self, xp: Any, x: Array) -> Any:
        """Return 1 or the slope."""
        return xp.where(x > 0, x.dtype.type(1), x.dtype.type(self.negative_slope))


def _logistic(xp: Any, x: Array) -> Any:
    """Return 1 / (1 + exp(-x)); no exponential overflows."""
    return xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(-abs(x)))


class Sigmoid(Activation):
    """1 / (1 + exp(-x)), element by element.

    Example:
        >>> import numpy as np
        >>> Sigmoid()(np.array([-1000.0, 0.0, 1000.0]))
        array([0. , 0.5, 1. ])
    """

    from_output = True

    def function(self, xp: Any, x: Array) -> Any:
        """Return the logistic function."""
        return _logistic(xp, x)

    def derivative(self, xp: Any, y: Array) -> Any:
        """Return y (1 - y)."""
        return y * (1 - y)


class SiLU(Activation):
    """x * sigmoid(x), element by element, also known as Swish.

    Example:
        >>> import numpy as np
        >>> SiLU()(np.array([0.0, 1000.0]))
        array([   0., 1000.])
    """

    def function(self, xp: Any, x: Array) -> Any:
        """Return x s with s = sigmoid(x)."""
        return x * _logistic(xp, x)

    def derivative(self, xp: Any, x: Array) -> Any:
        """Return s + x s (1 - s)."""
        s = _logistic(xp, x)
        return s * (1 + x * (1 - s))


class Hardsigmoid(Activation):
    """x / 6 + 1 / 2, limited to 0 and 1.

    Example:
        >>> import numpy as np
        >>> Hardsigmoid()(np.array([-4.0, 0.0, 1.5, 4.0]))
        array([0.  , 0.5 , 0.75, 1.  ])
    """

    from_output = True

    def function(self, xp: Any, x: Array) -> Any:
        """Return the limited line."""
        return xp.clip(x + 3, 0, 6) / 6

    def derivative(self, xp: Any, y: Array) -> Any:
        """Return 1/6 between the limits, 0 elsewhere."""
        return ((y > 0) & (y < 1)) * y.dtype.type(1 / 6)


class Hardswish(Activation):
    """x * hardsigmoid(x), element by element (Howard et al. 2019).

    Example:
        >>> import numpy as np
        >>> Hardswish()(np.array([-4.0, 3.0, 4.0]))
        array([-0.,  3.,  4.])
    """

    def function(self, xp: Any, x: Array) -> Any:
        """Return x hardsigmoid(x)."""
        return x * xp.clip(x + 3, 0, 6) / 6

    def derivative(self, xp: Any, x: Array) -> Any:
        """Return x / 3 + 1 / 2 between -3 and 3, 0 below and 1 above."""
        return (x > -3) * xp.where(x < 3, x / 3 + 0.5, xp.ones_like(x))


class PReLU(Pointwise):
    """x where x is positive, elsewhere x times a learned slope, which begins at 1/4 (He et al. 2015).

    Args:
        num_parameters: 1 for a single slope, or the number of channels for a slope each.

    Raises:
        ValueError: If it is not an integer >= 1.

    Example:
        >>> import numpy as np
        >>> PReLU()(np.array([[-4.0, 2.0]], np.float32))
        array([[-1.,  2.]], dtype=float32)
    """

    def __init__(self, num_parameters: int = 1):
        self.num_parameters = check_integer(num_parameters, "num_parameters", 1)
        self.weight = Parameter(np.full(num_parameters, 0.25, np.float32))

    def forward(self, x: Array) -> Array:
        """Return x, or slope * x where x is not positive."""
        xp = check_float(x=x, weight=self.weight.data)
        self.output_shape(x.shape[1:])
        y: Array = xp.where(x > 0, x, x * self._slopes(x))
        self.keep(x, output=y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dy, or slope * dy where x was not positive."""
        (x,) = self.recall(dy)
        xp = array_module(dy=dy)
        if self.weight.trainable:
            axes = (0, *range(2 - (self.num_parameters == 1), x.ndim))
            self.weight.accumulate((dy * xp.minimum(x, 0)).sum(axis=axes).reshape(-1))
        dx: Array = xp.where(x > 0, dy, dy * self._slopes(x))
        return dx

    def _slopes(self, x: Array) -> Array:
        return self.weight.data.reshape(-1, *[1] * (x.ndim - 2))  # (C,) -> (C, 1, 1)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the same shape."""
        if self.num_parameters not in (1, *shape[:1]):
            raise ValueError(f"{self!r} takes {self.num_parameters} channels, got items of shape {shape}")
        return shape

    def cost(self, shape: Shape) -> Cost:
        """Return the cost: the input is kept."""
        elements = math.prod(shape)
        return Cost(keeps_input=True, forward=2 * elements, backward=2 * elements)
