"""The ways in which the three maps of a convolution are computed.

Each module offers some or all of

    conv2d(x, w, geometry, b, y, relu)                    y   (N, O, OH, OW), written
    conv2d_input_grad(dy, w, geometry, input_size)     -> dx  (N, C, H, W)
    conv2d_weight_grad(x, dy, geometry)                -> dw  (O, C / groups, KH, KW)

on operands that `minifcn.functional.convolution` has checked. To add one, write the module and enter it in
the table of `minifcn.kernels.choosing`; the tests then hold it against `loops`.
"""
