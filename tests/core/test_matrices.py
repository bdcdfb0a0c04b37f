"""The one door for activations: what numpy or torch reads as a finite real matrix works alike, the rest is one sentence."""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import sparse

from convergent.core.matrices import as_matrix
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.errors import InputError

N, U = 24, 3
WHOLE = np.random.default_rng(0).integers(
    0, 120, (N, U)
)  # exact in every type of numbers but booleans and 8-bit floats
PLAIN = Moments.of(torch.from_numpy(WHOLE).double())


class Foreign:
    """An array of another library."""

    def __array__(self, dtype=None, copy=None):
        return WHOLE.astype(dtype or np.float64)


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("out of paper\nand ink")


def frame(**types):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({f"unit {u}": WHOLE[:, u] for u in range(U)}).astype(types)


def read_only():
    x = WHOLE.astype(np.float32)
    x.flags.writeable = False
    return x


TYPES = ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "float16", "bfloat16", "float32", "float64"]
GOOD = {
    **{str(kind): lambda kind=kind: WHOLE.astype(kind) for kind in "bBhHiIlLqQefdg"},
    **{
        f"big-endian {kind}": lambda kind=kind: WHOLE.astype(">" + kind)
        for kind in ("i2", "i8", "u4", "f2", "f4", "f8")
    },
    **{f"torch {kind}": lambda kind=kind: torch.from_numpy(WHOLE).to(getattr(torch, kind)) for kind in TYPES},
    "objects": lambda: WHOLE.astype(object),
    "fractions": lambda: [[Fraction(int(x)) for x in row] for row in WHOLE],
    "decimals": lambda: [[Decimal(int(x)) for x in row] for row in WHOLE],
    "list of lists": lambda: WHOLE.tolist(),
    "tuple of lists": lambda: tuple(WHOLE.tolist()),
    "list of arrays": lambda: list(WHOLE),
    "list of tensors": lambda: list(torch.from_numpy(WHOLE).float().requires_grad_()),
    "matrix": lambda: np.asmatrix(WHOLE),
    "foreign array": Foreign,
    "data frame": frame,
    "data frame of several types": lambda: frame(**{"unit 0": "float32", "unit 1": "int8"}),
    "data frame of nullable types": lambda: frame(**{"unit 0": "Int64"}),
    "data frame of objects": lambda: frame(**{"unit 0": object}),
    "reversed twice": lambda: WHOLE[::-1].copy()[::-1],
    "columns reversed twice": lambda: WHOLE[:, ::-1].astype("f4")[:, ::-1],
    "every other row": lambda: np.repeat(WHOLE, 2, 0)[::2],
    "Fortran order": lambda: np.asfortranarray(WHOLE),
    "read-only": read_only,
    "nothing masked": lambda: np.ma.masked_array(WHOLE, mask=False),
    "transposed": lambda: torch.from_numpy(WHOLE.T.copy()).T,
    "every other column": lambda: torch.from_numpy(np.repeat(WHOLE, 2, 1)).float()[:, ::2],
    "gradients": lambda: torch.from_numpy(WHOLE).double().requires_grad_() * 1,
    "parameter": lambda: torch.nn.Parameter(torch.from_numpy(WHOLE).float()),
    "negated view": lambda: torch.complex(torch.zeros(N, U), -torch.from_numpy(WHOLE).float()).conj().imag,
    "expanded": lambda: torch.from_numpy(WHOLE).float()[None].expand(2, N, U)[0],
}

X = torch.randn(N, U)
BAD = {
    **{f"{x!r:.20}": (lambda x=x: x, "not a") for x in (None, 1, 2.5, "abc", b"abc", True, {}, {1: 2}, object)},
    "text": (lambda: WHOLE.astype(str), "<U21 of shape"),
    "bytes": (lambda: WHOLE.astype(bytes), "of shape"),
    "text among objects": (lambda: [[1.0, "2"], [3.0, 4.0]], ""),
    "objects that are text": (lambda: WHOLE.astype(str).astype(object), "there is text"),
    "none among objects": (lambda: [[1.0, None], [3.0, 4.0]], ""),
    "objects": (lambda: np.array([[object()] * U] * N), "give an array of numbers"),
    "complex": (lambda: X.numpy() + 0j, "complex64 of shape .*the parts or the magnitude"),
    "complex tensor": (lambda: X + 0j, "complex64 of shape .*the parts or the magnitude"),
    "complex objects": (lambda: (WHOLE + 1j).astype(object), "give an array of numbers"),
    "dates": (lambda: np.full((N, U), np.datetime64("2024-01-01")), "datetime64"),
    "lengths of time": (lambda: np.full((N, U), np.timedelta64(1, "s")), "timedelta64"),
    "dates among objects": (lambda: [[datetime.date(2024, 1, 1)] * U] * N, "give an array of numbers"),
    "records": (lambda: np.zeros(N, dtype=[("a", "f4"), ("b", "f4")]), "give an array of numbers"),
    "ragged": (lambda: [[1.0, 2.0], [3.0]], "inhomogeneous"),
    "ragged tensors": (lambda: [X[0], X[0, :1]], "tensors that do not stack"),
    "generator": (lambda: (row for row in WHOLE), "not a generator"),
    "set": (lambda: {1, 2}, "not a set"),
    "a data set": (lambda: torch.utils.data.TensorDataset(X), ""),
    "broken array": (Broken, r"out of paper\); give"),
    "vector": (lambda: X[:, 0], r"float32 of shape \(24,\).*every sample"),
    "number": (lambda: torch.tensor(1.0), r"of shape \(\)"),
    "maps": (lambda: X[:, :, None, None], r"of shape \(24, 3, 1, 1\)"),
    "no samples": (lambda: X[:0], r"at least one sample .*of shape \(0, 3\)"),
    "no units": (lambda: X[:, :0], r"at least one .* unit.*of shape \(24, 0\)"),
    "empty list": (lambda: [], "not a list"),
    "empty lists": (lambda: [[], []], "at least one"),
    "sparse": (lambda: sparse.csr_matrix(WHOLE), r"sparse csr_matrix; make it dense \(toarray"),
    "sparse array": (lambda: sparse.coo_array(WHOLE), "sparse coo_array"),
    "sparse tensor": (lambda: X.to_sparse(), "sparse or nested; make it dense"),
    "compressed tensor": (lambda: X.to_sparse_csr(), "sparse or nested"),
    "nested tensor": (lambda: torch.nested.nested_tensor([X, X[:2]]), "sparse or nested"),
    "quantised tensor": (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8), "quantised"),
    "tensor without data": (lambda: X.to("meta"), "without data"),
    "masked": (lambda: np.ma.masked_array(WHOLE, mask=WHOLE > 100), "masked entries"),
    "missing": (lambda: frame(**{"unit 1": "Int64"}).mask(lambda f: f > 100), ""),
    "NaN": (lambda: torch.where(X > 1, torch.nan, X), "unit [0-9] has NaN or infinity"),
    "infinite": (lambda: np.where(X > 1, -np.inf, X), "unit [0-9] has NaN or infinity"),
    "infinite halves": (lambda: torch.where(X > 1, torch.inf, X).half(), "unit [0-9] has NaN or infinity"),
    "beyond float64": (lambda: np.full((N, U), np.longdouble("1e400")), "unit 0 has NaN or infinity"),
    "beyond all floats": (lambda: [[10**400, 1], [2, 3]], ""),
}  # fmt: skip


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("made", GOOD.values(), ids=GOOD)
def test_whatever_reads_as_a_finite_real_matrix_works_alike(made):
    assert torch.equal(Moments.of(made()).scatter_uu, PLAIN.scatter_uu)
    pair = Pair.of(made(), made())
    assert pair.moments.mean_u.dtype == torch.float64
    assert torch.equal(pair.total.mean_u[:U], pair.total.mean_u[U:])
    assert torch.allclose(pair.total.mean_u[U:], PLAIN.mean_u, rtol=1e-14)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR", "ignore:.*quantize")
@pytest.mark.parametrize(("made", "message"), BAD.values(), ids=BAD)
def test_anything_else_is_one_sentence(made, message):
    x = made()
    for of in (as_matrix, Moments.of, lambda x: Pair.of(x, X), lambda x: Pair.of(X, x)):
        if isinstance(x, type(row for row in ())):
            x = made()
        with pytest.raises(InputError, match=message or None) as refused:
            of(x)
        assert str(refused.value).endswith(".")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", [np.bool_, bool, torch.bool])
def test_booleans_are_zeros_and_ones(kind):
    x = torch.from_numpy(WHOLE > 50) if kind is torch.bool else (WHOLE > 50).astype(kind)
    assert torch.equal(Moments.of(x).scatter_uu, Moments.of((WHOLE > 50) * 1.0).scatter_uu)


@pytest.mark.parametrize("blocks", ["a", None, 0, -1, 2.0, 2.5, float("nan"), True, [3], torch.tensor([1, 2])])
def test_blocks_that_are_no_number_of_blocks_are_refused(blocks):
    with pytest.raises(InputError, match="blocks needs to be a whole number, at least 1, not"):
        Pair.of(X, X, blocks=blocks)


@pytest.mark.parametrize("blocks", [4, np.int8(4), torch.tensor(4)])
def test_whole_numbers_of_any_type_are_numbers_of_blocks(blocks):
    assert Pair.of(X, X, blocks=blocks).blocks == 4


IMAGES = np.arange(N) // 2


@pytest.mark.parametrize(
    "image_n",
    [IMAGES, IMAGES.astype("u1"), IMAGES.astype(">i4"), IMAGES.astype(float), IMAGES.tolist(), torch.from_numpy(IMAGES),
     IMAGES[::-1].copy()[::-1], IMAGES + 2**62],
)  # fmt: skip
def test_images_are_any_whole_numbers(image_n):
    assert torch.equal(Pair.of(X, X, image_n, 5).moments.count, Pair.of(X, X, IMAGES, 5).moments.count)
    assert Pair.of(X, X, image_n, 100).blocks == N // 2


@pytest.mark.parametrize(
    "image_n",
    ["abc", 3, IMAGES[1:], IMAGES[:, None], IMAGES + 0.5, IMAGES.astype(str), IMAGES * 1j, [None] * N, [np.nan] * N],
    ids=str,
)
def test_images_that_are_no_numbers_are_refused(image_n):
    with pytest.raises(InputError, match=r"image_n needs one whole number per sample, shape \(24,\), not "):
        Pair.of(X, X, image_n)
