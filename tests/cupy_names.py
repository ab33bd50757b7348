"""Names that CuPy has: those that its releases 13.3 and 15.0 share, as far as the stand-in knows them."""


def names(words: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(words.split())


UFUNCS = names(
    """
    abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh bitwise_and bitwise_not bitwise_or
    bitwise_xor cbrt ceil conj conjugate copysign cos cosh deg2rad degrees divide divmod equal exp exp2 expm1
    fabs floor floor_divide fmax fmin fmod frexp gcd greater greater_equal heaviside hypot invert isfinite
    isinf isnan lcm ldexp left_shift less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and
    logical_not logical_or logical_xor maximum minimum mod modf multiply negative nextafter not_equal positive
    power rad2deg radians reciprocal remainder right_shift rint sign signbit sin sinh sqrt square subtract tan
    tanh true_divide trunc
    """
)
CREATORS = names("arange empty eye full identity linspace logspace ones tri zeros")
FUNCTIONS = names(
    """
    all allclose amax amin angle any append argmax argmin argpartition argsort argwhere around array_equal
    array_equiv array_split ascontiguousarray asfortranarray atleast_1d atleast_2d atleast_3d average bincount
    broadcast_arrays broadcast_to choose clip column_stack compress concatenate convolve copy copyto correlate
    count_nonzero cross cumprod cumsum delete diag diagflat diagonal diff digitize dot dsplit dstack einsum
    empty_like expand_dims extract fill_diagonal fix flatnonzero flip fliplr flipud full_like histogram hsplit
    hstack imag inner interp isclose isin isneginf isposinf isreal kron lexsort matmul max mean median
    meshgrid min moveaxis nan_to_num nanargmax nanargmin nanmax nanmean nanmin nanprod nanstd nansum nanvar
    nonzero ones_like outer pad partition percentile place prod ptp put putmask quantile ravel real repeat
    reshape resize roll rollaxis rot90 round searchsorted select sort split squeeze stack std sum swapaxes
    take take_along_axis tensordot tile trace transpose tril triu unique unravel_index vander var vdot vsplit
    vstack where zeros_like
    """
)
PLAIN = names(
    """
    bool_ broadcast_shapes complex64 complex128 dtype e finfo floating float16 float32 float64 generic iinfo
    index_exp inf inexact int8 int16 int32 int64 integer intp issubdtype nan newaxis number pi promote_types
    s_ signedinteger uint8 uint16 uint32 uint64 unsignedinteger
    """
)
METHODS = names(
    """
    all any argmax argmin argpartition argsort choose clip compress conj conjugate copy cumprod cumsum
    diagonal dot fill flatten max mean min nonzero partition prod ptp put ravel repeat reshape round sort
    squeeze std sum swapaxes take trace transpose var view
    """
)
ATTRIBUTES = names("T dtype flags imag itemsize nbytes ndim real shape size strides")
TO_PYTHON = names("item tobytes tolist")
