"""Choosing the best where several are equally good: by a rule, for else rounding, which changes with the order, chooses.

Axes: `a` and `b` what is chosen and for whom; `i` and `j` rows and columns of an assignment problem.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

TIED = 1e-9  # correlations or nats that differ by no more are equal: far above rounding, far below any standard error
_GOLDEN = (5**0.5 - 1) / 2


def first_best(weight_ab: NDArray[np.float64]) -> NDArray[np.intp]:
    """The row of the largest weight in each column, the first of those that are equal up to `TIED`, shape (b,).

    >>> first_best(np.array([[0.3], [0.7 - 1e-13], [0.7]]))
    array([1])
    """
    first_b: NDArray[np.intp] = (weight_ab >= weight_ab.max(0) - TIED).argmax(0)
    return first_b


def best_assignment(weight_ij: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows, in order, and columns with the largest sum; of assignments that are equally good always the same one.

    A preference for some pairs of numbers, below `TIED`, is added to the weights: the fraction of i j times the golden
    ratio, which hardly ever agrees between two assignments and is the same for the transposed weights.
    >>> best_assignment(np.array([[0.7, 0.7], [0.7, 0.7 + 1e-15]]))[1]
    array([0, 1])
    """
    i, j = (np.arange(1.0, size + 1) for size in weight_ij.shape)
    row, column = linear_sum_assignment(weight_ij + TIED * preference(i[:, None], j), maximize=True)
    return row, column


def preference(i: NDArray[np.float64] | float, j: NDArray[np.float64]) -> NDArray[np.float64]:
    """What of equally good assignments chooses one, for rows and columns that are numbered from 1."""
    turns_ij = i * (j * _GOLDEN)
    preference_ij: NDArray[np.float64] = turns_ij - np.floor(turns_ij)
    return preference_ij
