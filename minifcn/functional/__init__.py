"""Stateless maps, each with its gradients beside it: no parameters, no state."""

from minifcn.functional.activation import relu, relu_grad, softmax, softmax_grad
from minifcn.functional.convolution import (
    conv2d,
    conv2d_bias_grad,
    conv2d_input_grad,
    conv2d_weight_grad,
    conv_transpose2d,
)
from minifcn.functional.normalization import (
    batch_norm,
    batch_norm_grad,
    group_norm,
    group_norm_grad,
    local_response_norm,
    local_response_norm_grad,
)
from minifcn.functional.pooling import avg_pool2d, avg_pool2d_grad, max_pool2d, max_pool2d_grad
from minifcn.functional.resizing import interpolate, interpolate_grad
from minifcn.functional.upsampling import bilinear_kernel
from minifcn.kernels.choosing import algorithms_for

__all__ = [
    "algorithms_for",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm",
    "batch_norm_grad",
    "bilinear_kernel",
    "conv2d",
    "conv2d_bias_grad",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "conv_transpose2d",
    "group_norm",
    "group_norm_grad",
    "interpolate",
    "interpolate_grad",
    "local_response_norm",
    "local_response_norm_grad",
    "max_pool2d",
    "max_pool2d_grad",
    "relu",
    "relu_grad",
    "softmax",
    "softmax_grad",
]
