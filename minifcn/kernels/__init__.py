"""How the maps of `minifcn.functional` are computed fast: no argument checks, results written to given
arrays.

Each algorithm is a module that offers, for some or all of the three maps of a convolution, a function that
takes a `Problem` (geometry, shapes, dtype, array library) and returns a `Plan`: its estimated seconds, its
workspace, and `run`, which takes the arrays. `minifcn.kernels.choosing` runs the plan with the fewest
seconds.

| Map | `run` of its plans |
|---|---|
| `conv2d` | `run(x, w, b, y, relu)` writes y (N, O, OH, OW) |
| `conv2d_input_grad` | `run(dy, w, dx)` writes dx (N, C, H, W) |
| `conv2d_weight_grad` | `run(x, dy, dw)` writes dw (O, C / groups, KH, KW) |

Read `plain` first: one copy of all windows and one matrix product. `loops` is the definition, to which the
tests compare all others. To add an algorithm, write its module and add it to `ALGORITHMS` in
`minifcn.kernels.choosing`; the tests then include it.

Terms, used alike in all modules:

- *window*: the elements of the input that one output depends on, k x k in each channel.
- *tap*: one element of the kernel; tap (a, b) of all windows is a part of the input with regular spacing.
- *column*: one window, flattened; the windows of several outputs are the columns of a matrix.
- *position*: one output of each filter, at one place of one image.
- *chunk*: a part of the work that one thread does at a time: some positions, channels or elements. Chunks are
  independent of each other and of the number of threads, so results do not depend on that number.
- *workspace*: scratch memory of a thread that is used again and again.
- *tile*: a square of Winograd outputs (4 x 4 or 2 x 2), with the inputs that it depends on.
- *phase*: the remainder of a row or column by the stride; all rows of one phase lie a stride apart.
- *block*: a square of s x s inputs, s the stride; a block has one element of each phase.
- *plan*: a computation that has been prepared from sizes alone, and holds no arrays of the caller.
"""

from minifcn.kernels.choosing import algorithms_for, convolve, convolve_input_grad, convolve_weight_grad

__all__ = ["algorithms_for", "convolve", "convolve_input_grad", "convolve_weight_grad"]
