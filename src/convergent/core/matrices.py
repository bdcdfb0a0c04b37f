"""The door for activations that a user brings: what numpy or torch can read as a finite real matrix, and nothing else.

Axes: `n` samples, `u` units.
"""

import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convergent.errors import InputError

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_matrix(x: Any, what: str = "Activations") -> Tensor:
    """A dense matrix of finite real numbers, on the host, not copied where it is one already.

    Args:
        x: numpy or torch, of any type of real numbers, byte order, strides and device, a list of rows, a data frame, or
            anything else that numpy reads as numbers.
        what: it is called in a message.

    Returns:
        Shape (n, u), floating, without a gradient; whole numbers of more than 16 bits become float64.

    Raises:
        InputError: if it is anything else: text, complex, sparse, masked, empty, not a matrix, NaN or infinite.

    >>> as_matrix([[1, 2], [3, 4]])
    tensor([[1., 2.],
            [3., 4.]], dtype=torch.float64)
    >>> as_matrix(torch.tensor([1, 2]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    convergent.errors.InputError: Activations need to be a matrix ... not int64 of shape (2,); reshape them so that ...
    """  # noqa: DOC501  (an InputError, made below)
    x_nu = _floating(_tensor(x, what))
    if x_nu.ndim != 2 or 0 in x_nu.shape:
        raise _refused(what, described(x), "reshape them so that every sample (image, position) is a row")
    finite_u = torch.isfinite(x_nu.amax(0)) & torch.isfinite(x_nu.amin(0))
    if not finite_u.all():
        unit = int((~finite_u).nonzero()[0])
        raise InputError(f"{what} need to be finite, but unit {unit} has NaN or infinity; look for it in the net.")
    return x_nu


def as_whole_numbers(x: Any, n: int, what: str) -> Tensor:
    """A vector of n whole numbers, int64, on the host.

    Raises:
        InputError: if it is anything else.
    """
    try:
        x_n = _tensor(x, what)
        whole = x_n.long()
        right = x_n.shape == (n,) and torch.equal(whole.to(x_n.dtype), x_n)
    except InputError:
        right = False
    if not right:
        raise InputError(f"{what} needs one whole number per sample, shape ({n},), not {described(x)}.")
    return whole


def as_count(x: Any, what: str) -> int:
    """A whole number, at least 1.

    Raises:
        InputError: if it is anything else.
    """
    try:
        number = 0 if isinstance(x, bool) else operator.index(x)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{what} needs to be a whole number, at least 1, not {x!r:.40}.")
    return number


def described(x: Any) -> str:
    """A few words on what something is.

    >>> described((torch.zeros(2, 3), {"label": 1}))
    '(float32 of shape (2, 3), a dictionary of label)'
    """
    if isinstance(x, (Tensor, np.ndarray)):
        return f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
    if isinstance(x, Mapping):
        return f"a dictionary of {', '.join(map(str, x)) or 'nothing'}"
    kind = type(x).__name__
    if not isinstance(x, (list, tuple)) or not x:
        return f"a {kind}"
    if isinstance(x[0], (Tensor, np.ndarray, Mapping, list, tuple)):
        return f"({', '.join(map(described, x[:3]))}{', ...' if len(x) > 3 else ''})"
    return f"a {kind} of {len(x)} {type(x[0]).__name__}"


def _tensor(x: Any, what: str) -> Tensor:
    if isinstance(x, (list, tuple)) and x and all(isinstance(row, Tensor) for row in x):
        x = _stacked(x, what)
    return _of_torch(x, what) if isinstance(x, Tensor) else _of_numpy(x, what)


def _stacked(rows: Sequence[Tensor], what: str) -> Tensor:
    try:
        return torch.stack([row.detach().cpu() for row in rows])
    except (RuntimeError, NotImplementedError) as error:
        raise _refused(what, f"tensors that do not stack ({_first_line(error)})", "give one tensor") from None


def _of_torch(x: Tensor, what: str) -> Tensor:
    if x.is_complex():
        raise _refused(what, described(x), "take the parts or the magnitude")
    if x.layout != torch.strided or x.is_nested or x.is_quantized or x.is_meta:
        kind = "quantised" if x.is_quantized else "without data" if x.is_meta else "sparse or nested"
        raise _refused(what, f"a tensor that is {kind}", "make it dense (to_dense, dequantize, to_padded_tensor)")
    return x.detach().cpu().resolve_neg()


def _of_numpy(x: Any, what: str) -> Tensor:
    if hasattr(x, "toarray") or hasattr(x, "todense"):  # of scipy, which numpy reads as one object
        raise _refused(what, f"a sparse {type(x).__name__}", "make it dense (toarray)")
    if np.ma.is_masked(x):
        raise _refused(what, "an array with masked entries", "fill them in (filled) or leave their samples out")
    try:
        array = np.asarray(x)
        if array.dtype == object:
            array = _of_objects(array)
    except Exception as error:  # whatever a foreign __array__ raises
        raise _refused(what, f"{described(x)} ({_first_line(error)})", "give an array of numbers") from None
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        given = described(array) if array.ndim else f"a {type(x).__name__}"
        hint = "take the parts or the magnitude" if array.dtype.kind == "c" else "give an array of numbers"
        raise _refused(what, given, hint)
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    own = f"={array.dtype.kind}{array.dtype.itemsize}"  # which for some types is another name of the same
    kind = np.dtype(np.float64 if wide or array.dtype.kind not in "biuf" else own)
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes into it
        return torch.from_numpy(np.ascontiguousarray(array, dtype=kind).reshape(array.shape))


def _floating(x: Tensor) -> Tensor:
    if x.dtype in _FLOATS:
        return x
    exact_in_float32 = x.dtype.itemsize <= (1 if x.is_floating_point() else 2)
    return x.to(torch.float32 if exact_in_float32 else torch.float64)


def _of_objects(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers among objects, such as a data frame's whose columns are of several types; text is none, whatever it says.

    Raises:
        TypeError: if there is text.
    """
    if any(isinstance(value, (str, bytes)) for value in array.flat):
        raise TypeError("there is text among the numbers")
    return array.astype(np.float64)


def _refused(what: str, given: str, hint: str) -> InputError:
    matrix = "a matrix of real numbers, shape (samples, units), with at least one sample and one unit"
    return InputError(f"{what} need to be {matrix}, not {given}; {hint}.")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
