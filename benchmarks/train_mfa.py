"""Mixtures of factor analysers fitted to images by EM, and the modes of the fitted law."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..targets.factor_analysers import MERGE_ABOVE, FactorMixture
from .train_loop import State

N_PER_CHUNK = 5_000  # points evaluated at once


@dataclass(frozen=True, kw_only=True)
class MFASettings:
    """Settings of a fit.

    Attributes:
        n_components, n_factors: K and q.
        noise_sd: of the Gaussian noise added to the images, in [-1, 1]; the least noise of a component too.
        n_copies: of every image, each with its own noise.
        n_iterations: of EM.
        n_draws: of each component, behind the masses of the modes.
    """

    n_components: int
    n_factors: int
    noise_sd: float
    n_copies: int
    n_iterations: int = 100
    n_draws: int = 100_000


def noisy_copies(images: Tensor, settings: MFASettings, generator: Generator) -> Tensor:
    """The points that EM is given: ``n_copies`` times the images ``(n, dim)``, with noise."""
    x = images.repeat(settings.n_copies, 1)
    return x + settings.noise_sd * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def begin_mfa(x: Tensor, settings: MFASettings, generator: Generator) -> State:
    """Clusters of k-means, each with its principal axes."""
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31, (), generator=generator))
    k_means = KMeans(settings.n_components, n_init=4, random_state=seed)  # pyright: ignore[reportArgumentType]
    found = k_means.fit_predict(x.numpy())
    clusters = [x[torch.from_numpy(found) == k] for k in range(settings.n_components)]
    means = torch.stack([cluster.mean(0) for cluster in clusters])
    loadings, variances = [], []
    for cluster, mean in zip(clusters, means, strict=True):
        _, singular, axes = torch.linalg.svd((cluster - mean) / len(cluster) ** 0.5, full_matrices=False)
        A = torch.zeros(x.shape[1], settings.n_factors, dtype=x.dtype)
        A[:, : len(singular)] = (singular[:, None] * axes)[: settings.n_factors].T
        loadings.append(A)
        variances.append(cluster.var(0, correction=0) - A.square().sum(-1))
    return {
        "weights": torch.tensor([len(cluster) / len(x) for cluster in clusters], dtype=x.dtype),
        "means": means,
        "loadings": torch.stack(loadings),
        "noise_sd": torch.stack(variances).clamp_min(settings.noise_sd**2).sqrt(),
    }


def em_step(state: State, x: Tensor, settings: MFASettings) -> tuple[State, str]:
    """One iteration of EM (Ghahramani and Hinton, 1996), with a mean and a noise of its own for every component.

    [A_k mu_k] = S_xz S_zz^-1 and D_k = diag(S_xx - [A_k mu_k] S_zx) / n_k, in posterior sums S over z = (factors, 1).
    """
    mixture = FactorMixture(**state)
    log_joint = torch.cat([mixture.log_joint(part)[0] for part in torch.split(x, N_PER_CHUNK)])
    log_prob = log_joint.logsumexp(-1)
    responsibilities = (log_joint - log_prob[:, None]).exp()
    counts = responsibilities.sum(0)
    identity = torch.eye(settings.n_factors, dtype=x.dtype)
    means, loadings, variances = [], [], []
    for k, r in enumerate(responsibilities.T):
        rows = (r > 1e-8).nonzero().squeeze(-1)  # the others change nothing
        points, share = x[rows], r[rows, None]
        to_factors = (
            torch.cholesky_solve(identity, mixture.cholesky[k])
            @ (mixture.loadings[k] / mixture.noise_sd[k].square()[:, None]).T
        )
        factors = (points - mixture.means[k]) @ to_factors.T
        z = torch.cat([factors, torch.ones_like(share)], dim=-1)
        S_zz = z.T @ (share * z)
        S_zz[:-1, :-1] += counts[k] * torch.cholesky_inverse(mixture.cholesky[k])
        S_xz = points.T @ (share * z)
        A_mu = torch.linalg.solve(S_zz, S_xz.T).T
        S_xx = (share * points.square()).sum(0)
        loadings.append(A_mu[:, :-1])
        means.append(A_mu[:, -1])
        variances.append((S_xx - (A_mu * S_xz).sum(-1)) / counts[k])
    new = {
        "weights": counts / len(x),
        "means": torch.stack(means),
        "loadings": torch.stack(loadings),
        "noise_sd": torch.stack(variances).clamp_min(settings.noise_sd**2).sqrt(),
    }
    return new, f"log likelihood {log_prob.mean().item():.4f}"


def modes_of(mixture: FactorMixture, n_draws: int, generator: Generator) -> tuple[Tensor, Tensor, float]:
    """Modes of the mixture, as the target defines them.

    Args:
        mixture: the law.
        n_draws: of every component.
        generator: of the draws.
    Returns:
        The mode of every component ``(K,)``, the masses of the modes, and the largest standard error of a mass.
    """
    from scipy.sparse.csgraph import connected_components

    n_components = len(mixture.weights)
    assigned = torch.zeros(n_components, n_components + 1, dtype=torch.float64)  # the last column: outside
    confused = torch.zeros(n_components, n_components, dtype=torch.float64)
    for j in range(n_components):
        for start in range(0, n_draws, N_PER_CHUNK):
            n = min(N_PER_CHUNK, n_draws - start)
            x = mixture.sample(torch.full((n,), j), generator)
            log_density = mixture.log_joint(x)[0] - mixture.weights.log()
            confused[j] += (log_density > log_density[:, j : j + 1]).sum(0) / n_draws
            component = mixture.component(x) % (n_components + 1)
            assigned[j] += torch.bincount(component, minlength=n_components + 1) / n_draws
    bayes_error = 0.5 * (confused + confused.T)
    n_modes, found = connected_components((bayes_error > MERGE_ABOVE).numpy(), directed=False)
    labels = torch.from_numpy(found).to(torch.int64)
    shares = torch.zeros(n_components, n_modes, dtype=torch.float64).index_add(1, labels, assigned[:, :-1])
    variance = mixture.weights.square() @ (shares * (1 - shares)) / n_draws
    return labels, mixture.weights @ shares, variance.sqrt().max().item()
