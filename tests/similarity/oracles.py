"""Measures of similarity by their definitions: from samples, Gram matrices and all pairs of samples."""

import numpy as np
import scipy.linalg
import torch

from convergent.core.blocks import block_of_image


def centred(x_nu):
    x_nu = np.asarray(x_nu, dtype=np.float64)
    return x_nu - x_nu.mean(0)


def standardised(x_nu):
    return centred(x_nu) / np.std(centred(x_nu), 0)


def grams(x_na, x_nb):
    return [x @ x.T for x in (centred(x_na), centred(x_nb))]


def alignment_of(k_nn, l_nn, product=lambda one, other: (one * other).sum()):
    return product(k_nn, l_nn) / np.sqrt(product(k_nn, k_nn) * product(l_nn, l_nn))


def cka(x_na, x_nb):
    return alignment_of(*grams(x_na, x_nb))


def hsic(k_nn, l_nn):
    """Song et al. 2012, equation 5, with Gram matrices whose diagonals are 0."""
    n = len(k_nn)
    k_nn, l_nn = (m - np.diag(np.diag(m)) for m in (k_nn, l_nn))
    total = (k_nn * l_nn).sum() + k_nn.sum() * l_nn.sum() / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (k_nn.sum(0) @ l_nn.sum(1))) / (n * (n - 3))


def cka_debiased_samples(x_na, x_nb):
    return alignment_of(*grams(x_na, x_nb), hsic)


def cka_debiased(x_na, x_nb, blocks=20):
    """The U-statistic over blocks, pair of blocks by pair of blocks."""
    block_n = block_of_image(len(x_na), blocks).numpy()
    nets = [np.asarray(x, dtype=np.float64) for x in (x_na, x_nb)]

    def product(i, j):
        cov_k = [
            centred(nets[i][block_n == k]).T @ centred(nets[j][block_n == k]) / (block_n == k).sum()
            for k in range(blocks)
        ]
        return sum((cov_k[k] * cov_k[other]).sum() for k in range(blocks) for other in range(blocks) if k != other)

    return product(0, 1) / np.sqrt(product(0, 0) * product(1, 1))


def rv(x_na, x_nb):
    return alignment_of(*grams(standardised(x_na), standardised(x_nb)))


def rv_adjusted(x_na, x_nb):
    """With the mean over permutations by its definition tr K tr L / (n - 1)."""
    k_nn, l_nn = grams(standardised(x_na), standardised(x_nb))
    by_chance = np.trace(k_nn) * np.trace(l_nn) / (len(k_nn) - 1) / np.sqrt((k_nn**2).sum() * (l_nn**2).sum())
    return (rv(x_na, x_nb) - by_chance) / (1 - by_chance)


def distances(x_nu):
    """Squared Euclidean, of all pairs of samples."""
    x_nu, (i, j) = np.asarray(x_nu, dtype=np.float64), np.triu_indices(len(x_nu), 1)
    square_n = (x_nu**2).sum(1)
    return (square_n[:, None] + square_n - 2 * x_nu @ x_nu.T)[i, j]


def rsa_pearson(x_na, x_nb):
    return np.corrcoef(distances(x_na), distances(x_nb))[0, 1]


def rsa_cosine(x_na, x_nb):
    d, e = distances(centred(x_na)), distances(centred(x_nb))
    return d @ e / np.sqrt(d @ d * (e @ e))


def basis(x_nu):
    return np.linalg.svd(x_nu, full_matrices=False)


def truncated(x_nu, explained):
    u_ne, s_e, _ = basis(centred(x_nu))
    return u_ne[:, : np.searchsorted(np.cumsum(s_e**2) / (s_e**2).sum(), explained) + 1]


def cosines(u_ne, v_nf):
    return np.linalg.svd(u_ne.T @ v_nf, compute_uv=False)


def cca(x_na, x_nb):
    return cosines(*(np.linalg.qr(centred(x))[0] for x in (x_na, x_nb))).mean()


def svcca(x_na, x_nb):
    return cosines(truncated(x_na, 0.99), truncated(x_nb, 0.99)).mean()


def pwcca(x_na, x_nb):
    """Morcos et al. 2018, with variates in the space of samples."""
    q_na, q_nb = (np.linalg.qr(centred(x))[0] for x in (x_na, x_nb))
    _, rho_c, right_cb = np.linalg.svd(q_na.T @ q_nb, full_matrices=False)
    variate_nc = q_nb @ right_cb.T
    weight_c = np.abs(variate_nc.T @ centred(x_nb)).sum(1)
    return (weight_c * rho_c).sum() / weight_c.sum()


def overlap(x_na, x_nb, explained):
    u_ne, v_nf = truncated(x_na, explained), truncated(x_nb, explained)
    return (cosines(u_ne, v_nf) ** 2).mean()


def procrustes(x_na, x_nb):
    """<X Q, Y> / |X| |Y| for the best rotation, found by scipy; narrower nets get units that are 0."""
    x_na, x_nb = padded(centred(x_na), centred(x_nb))
    rotation, _ = scipy.linalg.orthogonal_procrustes(x_na, x_nb)
    return (x_na @ rotation * x_nb).sum() / (np.linalg.norm(x_na) * np.linalg.norm(x_nb))


def padded(x_na, x_nb):
    wide = max(x_na.shape[1], x_nb.shape[1])
    return [np.pad(x, ((0, 0), (0, wide - x.shape[1]))) for x in (x_na, x_nb)]


def nbs(x_na, x_nb):
    """Fidelity of Gram matrices as normalised Bures similarity."""
    k_nn, l_nn = grams(x_na, x_nb)
    u_ne, s_e, _ = basis(centred(x_na))
    root_nn = u_ne * s_e @ u_ne.T
    fidelity = np.sqrt(np.clip(np.linalg.eigvalsh(root_nn @ l_nn @ root_nn), 0, None)).sum()
    return fidelity / np.sqrt(np.trace(k_nn) * np.trace(l_nn))


def bures(x_na, x_nb):
    return np.sqrt(2 - 2 * procrustes(x_na, x_nb))


def shape(x_na, x_nb, alpha=0.5):
    """The angular distance after partial whitening as netrep's LinearMetric has it, of nets scaled as we scale them."""
    white = []
    for x_nu in (centred(x_na), centred(x_nb)):
        variance_e, axes_ue = np.linalg.eigh(x_nu.T @ x_nu)
        scale = variance_e.sum() / (variance_e**2).sum()
        variance_e = variance_e * scale
        white.append(np.sqrt(scale) * x_nu @ (axes_ue * (alpha + (1 - alpha) * variance_e**-0.5)) @ axes_ue.T)
    return np.arccos(procrustes(*white))


def gulp(x_na, x_nb, ridge=1e-2):
    x_na, x_nb = (centred(x) / np.sqrt((centred(x) ** 2).sum(1).mean()) for x in (x_na, x_nb))
    n = len(x_na)
    aa, ab, bb = x_na.T @ x_na / n, x_na.T @ x_nb / n, x_nb.T @ x_nb / n
    inverse_a, inverse_b = (np.linalg.inv(c + ridge * np.eye(len(c))) for c in (aa, bb))
    own = np.trace(inverse_a @ aa @ inverse_a @ aa) + np.trace(inverse_b @ bb @ inverse_b @ bb)
    return np.sqrt(own - 2 * np.trace(inverse_a @ ab @ inverse_b @ ab.T))


def soft_matching(x_na, x_nb, mass=1.0):
    """By POT's solvers for whole and partial transport."""
    import ot

    corr_ab = standardised(x_na).T @ standardised(x_nb) / len(x_na)
    of_a, of_b = (np.full(k, 1 / k) for k in corr_ab.shape)
    cost_ab = np.ascontiguousarray(1 - corr_ab)
    plan_ab = ot.emd(of_a, of_b, cost_ab) if mass == 1 else ot.partial.partial_wasserstein(of_a, of_b, cost_ab, m=mass)
    return (plan_ab * corr_ab).sum() / mass


def cka_ceiling(x_na, x_nb, blocks=20):
    even_n = (block_of_image(len(x_na), blocks) % 2 == 0).numpy()
    value = 1.0
    for x_nu in (np.asarray(x_na, dtype=np.float64), np.asarray(x_nb, dtype=np.float64)):
        one, other = (centred(x_nu[some]).T @ centred(x_nu[some]) for some in (even_n, ~even_n))
        value *= (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
    return np.sqrt(value)


def permuted(x_na, x_nb, draws):
    """CKA with one net's samples permuted, so many times."""
    k_nn, l_nn = (torch.from_numpy(m) for m in grams(x_na, x_nb))
    scale = float(k_nn.norm() * l_nn.norm())
    orders = (torch.randperm(len(k_nn)) for _ in range(draws))
    return np.array([float((k_nn * l_nn[order][:, order]).sum()) / scale for order in orders])
