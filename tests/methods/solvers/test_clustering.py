"""Laws of spectral clustering on graphs, with scikit-learn as the oracle."""

import warnings

import numpy as np
import pytest
import scipy.linalg
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import SpectralClustering, kmeans_plusplus
from sklearn.cluster._spectral import cluster_qr as sklearn_cluster_qr
from sklearn.metrics import adjusted_rand_score

from convergent.errors import InputError
from convergent.methods.solvers import spectra
from convergent.methods.solvers.clustering import ASSIGNMENTS, Clustering, cluster_qr, first_centres, ordered
from convergent.methods.solvers.spectra import LAPLACIANS, Spectrum, connected_parts

ALL = [(laplacian, assign) for laplacian in LAPLACIANS for assign in ASSIGNMENTS]


def graph(sizes=(3, 9, 5, 7), within=0.6, between=0.1, seed=0):
    """A graph of groups that are joined more within than between, and the group of each node."""
    random = np.random.default_rng(seed)
    group_u = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    mean_uu = np.where(group_u[:, None] == group_u, within, between)
    noise_uu = np.triu(random.uniform(-0.08, 0.08, mean_uu.shape), 1)
    weight_uu = mean_uu + noise_uu + noise_uu.T
    np.fill_diagonal(weight_uu, 0)
    return weight_uu, group_u


@pytest.mark.parametrize(("laplacian", "assign"), ALL)
@pytest.mark.parametrize("number", [None, 4])
def test_groups_of_unequal_sizes_are_found(laplacian, assign, number):
    weight_uu, group_u = graph()
    cut = Clustering(number, laplacian=laplacian, assign=assign)(weight_uu)
    assert adjusted_rand_score(group_u, cut.label_u) == 1
    assert (cut.number, cut.parts, cut.isolated) == (4, 1, 0)
    assert cut.gap > 0.1


@pytest.mark.parametrize(("laplacian", "assign"), ALL)
def test_the_order_of_the_nodes_does_not_matter_even_where_there_are_no_groups(laplacian, assign):
    weight_uu, _ = graph((40,), 0.3)
    method = Clustering(7, laplacian=laplacian, assign=assign, restarts=2)
    label_u = method(weight_uu).label_u
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(40)
        again = method(weight_uu[np.ix_(order, order)]).label_u
        assert adjusted_rand_score(label_u[order], again) == 1
    assert (method(weight_uu).label_u == label_u).all()


def test_the_unit_of_weights_does_not_matter():
    weight_uu, _ = graph((40,), 0.3)
    for laplacian in LAPLACIANS:
        method = Clustering(6, laplacian=laplacian)
        assert (method(weight_uu).label_u == method(1000 * weight_uu).label_u).all()


def test_it_is_scikit_learns_where_the_groups_are_clear():
    weight_uu, _ = graph((20, 8, 13), within=0.5, between=0.2)
    theirs = SpectralClustering(3, affinity="precomputed", assign_labels="cluster_qr", random_state=0).fit(weight_uu)
    for laplacian, assign in ALL:
        ours = Clustering(3, laplacian=laplacian, assign=assign)(weight_uu)
        assert adjusted_rand_score(theirs.labels_, ours.label_u) == 1


def test_the_assignment_is_scikit_learns_and_the_same_for_any_basis_of_the_span():
    random = np.random.default_rng(0)
    vector_uc = np.linalg.qr(random.standard_normal((60, 5)))[0]
    turn_cc = np.linalg.qr(random.standard_normal((5, 5)))[0]
    label_u = cluster_qr(vector_uc)
    assert (label_u == sklearn_cluster_qr(vector_uc)).all()
    assert adjusted_rand_score(label_u, cluster_qr(vector_uc @ turn_cc)) == 1


def check_spectrum(spectrum, weight_uu, laplacian, number):
    """Its eigenvalues are those of scipy's dense solver, its eigenvectors solve the equation and are orthonormal."""
    degree_u = weight_uu.sum(1)
    laplacian_uu, metric_uu = np.diag(degree_u) - weight_uu, np.eye(len(weight_uu))
    if laplacian == "random_walk":
        metric_uu = np.diag(degree_u)
    if laplacian == "symmetric":
        laplacian_uu /= np.sqrt(degree_u[:, None] * degree_u)
    value_c, vector_uc = spectrum.values(number), spectrum.vectors(number)
    expected_c = scipy.linalg.eigh(laplacian_uu, metric_uu, eigvals_only=True)[:number]
    assert np.allclose(value_c, expected_c, atol=1e-9)
    assert np.allclose(laplacian_uu @ vector_uc, metric_uu @ vector_uc * value_c, atol=1e-9)
    assert np.allclose(vector_uc.T @ metric_uu @ vector_uc, np.eye(number), atol=1e-9)


@pytest.mark.parametrize("laplacian", LAPLACIANS)
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_lanczos_finds_what_the_dense_solver_finds_and_hands_over_to_it(laplacian, share, monkeypatch):
    random = np.random.default_rng(0)
    weight_uu = random.uniform(0, 1, (150, 150))
    weight_uu = np.triu(weight_uu * (random.uniform(0, 1, (150, 150)) < share), 1)
    weight_uu += weight_uu.T
    monkeypatch.setattr(spectra, "DENSE", 10)
    asked = Spectrum(weight_uu, laplacian)
    check_spectrum(asked, weight_uu, laplacian, 8)
    monkeypatch.setattr(spectra, "eigsh", _fails)
    for spectrum in (asked, Spectrum(weight_uu, laplacian)):
        for number in (8, 149, 3, 12):
            check_spectrum(spectrum, weight_uu, laplacian, number)


@pytest.mark.parametrize("laplacian", LAPLACIANS)
def test_equal_eigenvalues_have_eigenvectors_of_their_own(laplacian):
    star_uu, two_uu, ring_uu = np.zeros((10, 10)), np.ones((2, 2)) - np.eye(2), np.roll(np.eye(12), 1, 0)
    star_uu[0, 1:] = star_uu[1:, 0] = 1
    for weight_uu in (
        np.ones((9, 9)) - np.eye(9), star_uu, ring_uu + ring_uu.T, two_uu, np.kron(two_uu, np.ones((5, 5))),
        np.kron(np.ones((6, 6)) + np.eye(6), np.ones((4, 4)) - np.eye(4)),
    ):  # fmt: skip
        for number in range(1, len(weight_uu) + 1):
            check_spectrum(Spectrum(weight_uu, laplacian), weight_uu, laplacian, number)


def _fails(*args, **kwargs):
    raise spectra.ArpackError(-9999)


@pytest.mark.parametrize(("laplacian", "assign"), ALL)
def test_parts_that_nothing_joins_are_never_joined_and_nodes_without_an_edge_are_set_aside(laplacian, assign):
    weight_uu, group_u = graph((6, 4, 5), between=0.0)
    weight_uu[weight_uu < 0.3] = 0
    weight_uu = np.pad(weight_uu, ((1, 2), (1, 2)))
    for number in (None, 1, 3, 5):
        cut = Clustering(number, laplacian=laplacian, assign=assign)(weight_uu)
        assert cut.label_u[[0, -1, -2]].tolist() == [-1] * 3
        assert (cut.parts, cut.isolated) == (3, 3)
        assert cut.number == max(number or 3, 3)
        for label in range(cut.number):
            assert len(set(group_u[cut.label_u[1:-2] == label])) == 1


def test_parts_are_scipys_in_the_order_of_their_first_nodes():
    random = np.random.default_rng(0)
    for share in (0.002, 0.01, 0.02):  # from pairs of nodes to one large part with long chains in it
        weight_uu = np.triu(random.uniform(0, 1, (120, 120)) * (random.uniform(0, 1, (120, 120)) < share), 1)
        weight_uu += weight_uu.T
        number, part_u = connected_components(weight_uu, directed=False)
        expected = [np.flatnonzero(part_u == part).tolist() for part in range(number)]
        assert [sorted(part.tolist()) for part in connected_parts(weight_uu)] == [of for of in expected if len(of) > 1]


def test_what_cannot_be_cut_is_left_whole():
    nothing = Clustering()(np.zeros((4, 4)))
    assert (nothing.number, nothing.parts, nothing.isolated) == (0, 0, 4)
    assert Clustering()(np.zeros((0, 0))).number == 0
    assert Clustering()(np.ones((2, 2))).label_u.tolist() == [0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for laplacian, assign in ALL:
            method = Clustering(50, laplacian=laplacian, assign=assign)
            assert sorted(method(np.ones((5, 5))).label_u) == [0, 1, 2, 3, 4]
            assert Clustering(1, laplacian=laplacian, assign=assign)(graph()[0]).number == 1


def test_bounds_hold_the_widest_gap():
    weight_uu, _ = graph()
    assert Clustering(bounds=(6, 9))(weight_uu).number in range(6, 10)
    assert Clustering(bounds=(1, 3))(weight_uu).number <= 3


def test_labels_go_by_size_then_by_the_first_node():
    assert ordered(np.array([4, 4, 0, 0, 2, 2, 2, -1])).tolist() == [1, 1, 2, 2, 0, 0, 0, -1]
    assert ordered(np.array([-1])).tolist() == [-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"number": 0}, "number needs to be a whole number, 1 or more, or null, not 0"),
        ({"number": 2.5}, "not 2.5"),
        ({"laplacian": "normal"}, "laplacian needs to be unnormalised, symmetric or random_walk, not 'normal'"),
        ({"assign": "discretize"}, "assign needs to be cluster_qr or kmeans"),
        (
            {"bounds": (5, 2)},
            r"bounds needs to be a least and a largest number of clusters, as \[2,100\], not \(5, 2\)",
        ),
        ({"restarts": 0}, "restarts needs to be a whole number, 1 or more, not 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Clustering(**settings)


@pytest.mark.parametrize(("nodes", "number"), [(150, 30), (60, 5)])
def test_first_centres_are_those_that_scikit_learn_draws(nodes, number):
    x_uc = np.linalg.qr(np.random.default_rng(1).standard_normal((nodes, number)))[0]
    random = np.random.RandomState(3)
    theirs = [kmeans_plusplus(x_uc, number, random_state=random)[1] for _ in range(4)]
    assert np.array_equal(first_centres(x_uc, number, 4, seed=3), theirs)


def test_first_centres_among_equals_are_the_same_for_any_basis_of_the_span():
    x_uc = np.repeat(np.eye(8), 3, axis=0)
    turn_cc = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0]
    for seed in range(5):
        assert np.array_equal(first_centres(x_uc, 6, 10, seed), first_centres(x_uc @ turn_cc, 6, 10, seed))
