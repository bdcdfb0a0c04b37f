"""Sparse sums of several processes."""

import scipy.sparse as sp
import torch

from convergent.core.sparse_products import Sparse, added, matrix_of, tensors_of
from convergent.streaming.collector import of_other_processes


def sum_of_processes(own: Sparse | None, shape: tuple[int, int]) -> Sparse:
    """The sum of all processes' matrices, the same in all of them; None stands for one without entries."""
    own = sp.csr_array(shape) if own is None else own
    others = [int(of["entries"]) for of in of_other_processes({"entries": torch.tensor([own.nnz])})]
    missing = max([own.nnz, *others]) - own.nnz  # what is sent is of one shape
    sent = {name: x if name == "values" else x.long() for name, x in tensors_of(own).items()}
    sent |= {name: torch.nn.functional.pad(sent[name], (0, missing)) for name in ("columns", "values")}
    matrices = [
        matrix_of({"starts": of["starts"], "columns": of["columns"][:n], "values": of["values"][:n]}, shape)
        for n, of in zip(others, of_other_processes(sent))
    ]
    if matrices:  # in the order of the processes, so that all of them round alike
        matrices.insert(torch.distributed.get_rank(), own)
    return added(matrices or [own])
