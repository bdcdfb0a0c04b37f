"""Laws of spectral clustering on graphs, with scikit-learn as the oracle."""

import warnings

import numpy as np
import pytest
import scipy.linalg
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.cluster._spectral import cluster_qr as sklearn_cluster_qr
from sklearn.metrics import adjusted_rand_score

from convergent.errors import InputError
from convergent.methods.solvers import spectra
from convergent.methods.solvers.clustering import ASSIGNMENTS, Clustering, Seeding, cluster_qr, ordered
from convergent.methods.solvers.spectra import LAPLACIANS, Graph, spectrum

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


@pytest.mark.parametrize("laplacian", LAPLACIANS)
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_lanczos_finds_what_the_dense_solver_finds(laplacian, share, monkeypatch):
    random = np.random.default_rng(0)
    weight_uu = random.uniform(0, 1, (150, 150))
    weight_uu = np.triu(weight_uu * (random.uniform(0, 1, (150, 150)) < share), 1)
    weight_uu += weight_uu.T
    degree_uu = np.diag(weight_uu.sum(1))
    metric_uu = np.eye(150) if laplacian == "unnormalised" else degree_uu
    expected_c = scipy.linalg.eigh(degree_uu - weight_uu, metric_uu, eigvals_only=True)[:8]
    monkeypatch.setattr(spectra, "DENSE", 10)
    value_c, vector_uc = spectrum(weight_uu, 8, laplacian)
    assert np.allclose(value_c, expected_c, atol=1e-9)
    if laplacian == "random_walk":
        assert np.allclose((degree_uu - weight_uu) @ vector_uc, degree_uu @ vector_uc * value_c, atol=1e-7)
    monkeypatch.setattr(spectra, "eigsh", _fails)
    assert np.allclose(spectrum(weight_uu, 8, laplacian)[0], expected_c)


@pytest.mark.parametrize("laplacian", LAPLACIANS)
def test_a_graph_that_is_asked_again_has_the_spectrum_that_it_had(laplacian):
    weight_uu, _ = graph()
    asked = Graph(weight_uu, laplacian)
    for number in (3, 8, 5):
        ((value_c, vector_uc),) = asked.spectra(number)
        expected_c, expected_uc = spectrum(weight_uu[np.ix_(*2 * asked.parts)], number, laplacian)
        assert np.allclose(value_c, expected_c)
        assert np.allclose(vector_uc @ vector_uc.T, expected_uc @ expected_uc.T)


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
    ours, theirs = (KMeans(number, init=init, n_init=4, random_state=3).fit(x_uc) for init in (Seeding(), "k-means++"))
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-12)
