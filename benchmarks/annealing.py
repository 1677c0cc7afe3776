"""Log normalisers by annealing in both directions: two independent estimators, and the best combination of them.

Between a normalised base q and the target p lie the laws of log density (1 - beta) log q + beta log p. A path that
starts at a draw of q and climbs to p gives an unbiased estimate of Z (annealed importance sampling); a path that starts
at a draw of p and descends gives one of 1 / Z. The first is low when it misses mass, the second high when the draws do,
so that they agree only where base, draws and density fit together. Mass that neither base nor draws have ever seen
stays unseen: that the draws are complete is for other checks to say.

References: R. Neal, Stat. Comput. 11 (2001); R. Grosse, Z. Ghahramani, R. Adams, arXiv 1511.02543 (both directions);
C. Bennett, J. Comput. Phys. 22 (1976) (their combination).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.autograd.functional import hessian, jacobian

from ..samplers.base import State
from ..samplers.kernels import MALAKernel
from ..targets.base import LOG_2PI, HasModes, Target, normal
from ..targets.draws import Estimate
from ..targets.meter import Meter

ACCEPTANCE = 0.6  # of the moves, aimed at by the pilot
MIN_EFFECTIVE = 0.99  # share of the pilot's particles that is effective after the weights of one step of beta
NEAR = 0.5  # standard deviation of log p - log q over the draws below which one Gaussian is near enough
N_BINS = 24  # of a coordinate's draws, a Gaussian for each
N_FACTORS = 12  # of a covariance that has more numbers than there are draws
MAX_DENSE = 10_000_000  # numbers in the covariances of a base: with more, dense ones would take hours
MAX_STEPS = 4_000
MAX_MODES = 64  # a base has no more components
POINTS_AT_ONCE = 500


class Base(Protocol):
    """A normalised law near the target, with draws."""

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Draws ``(n_samples, dim)``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(n, dim)`` to ``(n,)``."""
        ...


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians: weights ``(k,)``, means ``(k, dim)``, Cholesky factors ``(k, dim, dim)``."""

    weights: Tensor
    means: Tensor
    factors: Tensor

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Draws ``(n_samples, dim)``."""
        component = torch.multinomial(self.weights, n_samples, replacement=True, generator=generator)
        x = normal(n_samples, self.means.shape[1], generator)
        for k, (mean, factor) in enumerate(zip(self.means, self.factors, strict=True)):
            x[component == k] = mean + x[component == k] @ factor.T
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(n, dim)`` to ``(n,)``."""
        z: Tensor = torch.linalg.solve_triangular(self.factors, (x - self.means[:, None]).mT, upper=False)
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_joint = (self.weights.log() - log_det)[:, None] - 0.5 * (z.square().sum(-2) + x.shape[-1] * LOG_2PI)
        return log_joint.logsumexp(0)


@dataclass(frozen=True)
class FactorMixture:
    """A mixture of Gaussians with covariances diag(variances[k]) + loadings[k] loadings[k]^T.

    It shares no code with the target that is such a mixture, so that an error of one does not cancel in the other.

    Attributes:
        weights: shape ``(k,)``.
        means, variances: shape ``(k, dim)``.
        loadings: shape ``(k, dim, q)``.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    loadings: Tensor

    @cached_property
    def _inner(self) -> Tensor:
        """Cholesky factors of I + A^T D^-1 A, shape ``(k, q, q)``."""
        identity = torch.eye(self.loadings.shape[-1], dtype=self.loadings.dtype)
        scaled = self.loadings / self.variances.sqrt()[..., None]
        factors: Tensor = torch.linalg.cholesky(identity + scaled.mT @ scaled)
        return factors

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Draws ``(n_samples, dim)``."""
        component = torch.multinomial(self.weights, n_samples, replacement=True, generator=generator)
        x = normal(n_samples, self.means.shape[1], generator)
        z = normal(n_samples, self.loadings.shape[-1], generator)
        for k, loadings in enumerate(self.loadings):
            rows = component == k
            x[rows] = self.means[k] + self.variances[k].sqrt() * x[rows] + z[rows] @ loadings.T
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density by Woodbury's and Sylvester's identities, shape ``(n, dim)`` to ``(n,)``."""
        log_det = 0.5 * self.variances.log().sum(-1) + self._inner.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        radius2 = []
        for mean, variance, loadings, inner in zip(
            self.means, self.variances, self.loadings, self._inner, strict=True
        ):  # all components at once would take (n, k, dim) numbers
            y = (x - mean) / variance.sqrt()
            projected = y @ (loadings / variance.sqrt()[:, None])
            explained: Tensor = torch.linalg.solve_triangular(inner, projected.T, upper=False)
            radius2.append(y.square().sum(-1) - explained.square().sum(0))
        log_joint = (self.weights.log() - log_det)[:, None] - 0.5 * (torch.stack(radius2) + x.shape[-1] * LOG_2PI)
        return log_joint.logsumexp(0)


@dataclass(frozen=True)
class Product:
    """Independent coordinates, each an equal mixture of Gaussians: means and standard deviations ``(k, dim)``."""

    means: Tensor
    sds: Tensor

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Draws ``(n_samples, dim)``."""
        n_bins, dim = self.means.shape
        component = torch.randint(n_bins, (n_samples, dim), generator=generator)
        return self.means.gather(0, component) + self.sds.gather(0, component) * normal(n_samples, dim, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(n, dim)`` to ``(n,)``."""
        z = (x[:, None] - self.means) / self.sds
        log_joint = -0.5 * z.square() - self.sds.log() - 0.5 * LOG_2PI - math.log(len(self.means))
        return log_joint.logsumexp(1).sum(-1)


def fit_base(target: Target, draws: Tensor) -> Base:
    """A base near the law of ``draws``, shape ``(n, dim)``.

    It has one Gaussian per mode that the target knows, a factor analyser each where there are many in many dimensions.
    Where it knows one mode or none, it is one Gaussian, a mixture of 24 with axes along the coordinates (funnels) or
    independent coordinates (many wells), whichever gives a quarter of the draws, held out, the highest density. Modes
    with too few draws for a mean are left out; the annealing finds or misses their mass.
    """
    fitted, held_out = draws[len(draws) // 4 :], draws[: len(draws) // 4]
    mode = torch.zeros(len(fitted), dtype=torch.int64)
    if isinstance(target, HasModes) and len(target.modes.masses) <= MAX_MODES:
        mode = target.modes.assign(fitted)
    groups = [fitted[mode == k] for k in range(int(mode.max()) + 1)]
    groups = [group for group in groups if len(group) >= 10 + len(draws) // 2_000] or [fitted]
    if len(groups) * target.dim**2 > MAX_DENSE:
        return _factor_mixture(groups)
    counts = torch.tensor([len(group) for group in groups], dtype=torch.float64)
    factors = torch.stack([torch.linalg.cholesky(_covariance(group)) for group in groups])
    by_modes = Mixture(counts / counts.sum(), torch.stack([group.mean(0) for group in groups]), factors)
    if len(groups) > 1 or (target.log_prob(held_out) - by_modes.log_prob(held_out)).std() < NEAR:
        return by_modes
    bases: tuple[Base, ...] = (by_modes, _mixture(fitted), _product(fitted))
    return max(bases, key=lambda base: base.log_prob(held_out).mean().item())


def _factor_mixture(groups: Sequence[Tensor]) -> FactorMixture:
    """A factor analyser per group of draws."""
    from sklearn.decomposition import FactorAnalysis

    fits = [FactorAnalysis(N_FACTORS, random_state=0).fit(group.numpy()) for group in groups]
    counts = torch.tensor([len(group) for group in groups], dtype=torch.float64)
    return FactorMixture(
        counts / counts.sum(),
        torch.stack([group.mean(0) for group in groups]),
        torch.stack([torch.from_numpy(fit.noise_variance_) for fit in fits]),
        torch.stack([torch.from_numpy(fit.components_.T.copy()) for fit in fits]),
    )


def _product(draws: Tensor) -> Product:
    """Each coordinate's draws, sorted and cut into 24 equal parts: a Gaussian with the mean and width of each."""
    parts = draws[: len(draws) // N_BINS * N_BINS].sort(0).values.reshape(N_BINS, -1, draws.shape[1])
    return Product(parts.mean(1), 1.2 * parts.std(1))  # wider, so that neighbours overlap


def _mixture(draws: Tensor) -> Mixture:
    """Mixture of 24 Gaussians with diagonal covariances, fitted by expectation maximisation."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a rough fit will do
        model = GaussianMixture(24, covariance_type="diag", init_params="k-means++", random_state=0, max_iter=50)
        model.fit(draws.numpy())
    weights, means, variances = (torch.from_numpy(a) for a in (model.weights_, model.means_, model.covariances_))
    return Mixture(weights, means, torch.diag_embed(variances.sqrt()))


def _covariance(x: Tensor) -> Tensor:
    """Of draws ``(n, dim)``: the sample covariance if they are enough for its dim^2 / 2 numbers, else some factors."""
    n, dim = x.shape
    if n > dim**2 or dim <= 4:
        return x.T.cov().reshape(dim, dim) + 1e-12 * x.var() * torch.eye(dim, dtype=x.dtype)
    from sklearn.decomposition import FactorAnalysis

    n_factors = max(1, min(N_FACTORS, dim // 4, n // 20))
    fitted = FactorAnalysis(n_factors, random_state=0).fit(x.numpy())
    return torch.from_numpy(fitted.get_covariance())


def laplace_base(target: Target, start: Tensor) -> Mixture:
    """Gaussian at the mode, with the inverse of the negative Hessian there; for log-concave targets.

    Args:
        target: the density.
        start: where Newton's iteration begins, shape ``(dim,)``.
    Raises:
        ValueError: if the iteration does not converge, or meets a Hessian that is not negative definite.
    """
    x = start.to(torch.float64)
    move = torch.full_like(x, math.inf)
    for _ in range(50):
        score: Tensor = jacobian(target.log_prob, x)  # type: ignore[no-untyped-call]
        factor, failure = torch.linalg.cholesky_ex(-hessian(target.log_prob, x))  # type: ignore[no-untyped-call]
        if failure:
            raise ValueError("target must be log-concave on the way of Newton's iteration, its Hessian is not negative")
        move = torch.cholesky_solve(score[:, None], factor)[:, 0]
        x = x + move / max(1.0, (move.abs().max() / 2).item())
        if move.abs().max() < 1e-8:
            covariance = torch.cholesky_inverse(factor)
            return Mixture(torch.ones(1, dtype=x.dtype), x[None], torch.linalg.cholesky(covariance)[None])
    raise ValueError(f"Newton's iteration must converge in 50 steps, its last move was {move.abs().max():.3g}")


def whiten(x: Tensor, factor: Tensor) -> Tensor:
    """The points y of x = factor y, both of shape ``(n, dim)``; ``factor`` is lower triangular."""
    y: Tensor = torch.linalg.solve_triangular(factor, x.T, upper=False).T
    return y


@dataclass(frozen=True)
class Annealed:
    """The law between base and target at ``beta``, in the coordinates y of x = factor y."""

    target: Target
    base: Base
    factor: Tensor
    beta: float

    scale = 1.0

    @property
    def dim(self) -> int:
        """That of the target."""
        return self.target.dim

    def log_ratio(self, y: Tensor) -> Tensor:
        """log p - log q, shape ``(n, dim)`` to ``(n,)``."""
        x = y @ self.factor.T
        return self.target.log_prob(x) - self.base.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density up to a constant at whitened points, shape ``(n, dim)`` to ``(n,)``."""
        x = x @ self.factor.T
        return (1 - self.beta) * self.base.log_prob(x) + self.beta * self.target.log_prob(x)


@dataclass(frozen=True)
class Path:
    """Temperatures and the step of the move that leaves each one's law invariant; fixed before any weight is taken.

    Attributes:
        target, base: the ends.
        factor: of the covariance of the target's draws: the moves are made in whitened coordinates.
        betas: from 0 to 1, increasing.
        steps: of MALA at each beta.
    """

    target: Target
    base: Base
    factor: Tensor
    betas: Sequence[float]
    steps: Sequence[float]

    def at(self, beta: float) -> Annealed:
        """The law at ``beta``."""
        return Annealed(self.target, self.base, self.factor, beta)

    def move(self, y: Tensor, t: int, generator: Generator) -> Tensor:
        """One MALA transition of every point under the law of ``betas[t]``."""
        return _move(self.at(self.betas[t]), y, self.steps[t], generator).x


def _move(law: Annealed, y: Tensor, step: float, generator: Generator) -> State:
    meter = Meter(law, dtype=torch.float64)
    parts = [MALAKernel(step)(State.at(part, meter), meter, generator) for part in torch.split(y, POINTS_AT_ONCE)]
    return State.join(*parts)


def _log_ratio(law: Annealed, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([law.log_ratio(part) for part in torch.split(y, POINTS_AT_ONCE)])


def plan_path(
    target: Target,
    base: Base,
    draws: Tensor,
    generator: Generator,
    *,
    min_effective: float = MIN_EFFECTIVE,
    n_particles: int = 300,
) -> Path:
    """Temperatures by the effective share of a pilot's particles, and steps by its acceptance.

    Args:
        target, base: the ends.
        draws: of the target, shape ``(n, dim)``: the moves are made in coordinates whitened by their covariance, or by
            the base's if that is one Gaussian.
        generator: the only source of randomness.
        min_effective: share of the particles that is effective after each step of beta; nearer to 1, more steps.
        n_particles: of the pilot.
    Raises:
        ValueError: if more than 4,000 temperatures would be needed.
    """
    if isinstance(base, Mixture) and len(base.weights) == 1:
        factor = base.factors[0]
    else:
        factor = torch.linalg.cholesky(_covariance(draws))
    y = whiten(base.sample(n_particles, generator), factor)
    betas, steps, step = [0.0], [0.0], 0.5 / target.dim ** (1 / 3)
    while betas[-1] < 1:
        if len(betas) > MAX_STEPS:
            raise ValueError(f"base must be nearer to the target: {MAX_STEPS} temperatures reach only {betas[-1]:.3g}")
        log_ratio = _log_ratio(Annealed(target, base, factor, betas[-1]), y)
        betas.append(_next_beta(betas[-1], log_ratio, min_effective))
        weights = ((betas[-1] - betas[-2]) * log_ratio).softmax(0)
        y = y[torch.multinomial(weights, n_particles, replacement=True, generator=generator)]
        for _ in range(2):
            state = _move(Annealed(target, base, factor, betas[-1]), y, step, generator)
            y = state.x
            step *= math.exp(0.5 * (state.acceptance.mean().item() - ACCEPTANCE))
        steps.append(step)
    return Path(target, base, factor, betas, steps)


def _next_beta(beta: float, log_ratio: Tensor, min_effective: float) -> float:
    """The largest beta, by bisection, at which the share of effective particles is still ``min_effective``."""
    low, high = beta, 1.0
    if _effective_share((high - beta) * log_ratio) >= min_effective:
        return high
    for _ in range(40):
        middle = 0.5 * (low + high)
        enough = _effective_share((middle - beta) * log_ratio) >= min_effective
        low, high = (middle, high) if enough else (low, middle)
    return max(low, beta + 1e-9)


def _effective_share(log_weights: Tensor) -> float:
    n = len(log_weights)
    return math.exp(2 * log_weights.logsumexp(0).item() - (2 * log_weights).logsumexp(0).item()) / n


@dataclass(frozen=True)
class Normaliser:
    """Estimates of the target's log normaliser, in nats.

    Attributes:
        up, down: by the paths from the base, and by those from the target's draws; independent of each other.
        both: Bennett's combination.
        ess_up, ess_down: effective numbers of paths.
        n_paths: in each direction.
        n_temperatures: of a path, its ends included.
    """

    up: Estimate
    down: Estimate
    both: Estimate
    ess_up: float
    ess_down: float
    n_paths: int
    n_temperatures: int

    @property
    def gap(self) -> float:
        """Difference of the two directions, in its standard error."""
        return (self.up.value - self.down.value) / math.hypot(self.up.std_error, self.down.std_error)


def log_normaliser(path: Path, draws: Tensor, generator: Generator) -> Normaliser:
    """Anneal as many paths up as there are ``draws`` ``(n, dim)`` of the target to anneal down."""
    work_up, work_down = _climb(path, len(draws), generator), _descend(path, draws, generator)
    up, ess_up = _log_mean_exp(work_up)
    inverse, ess_down = _log_mean_exp(-work_down)
    down = Estimate(-inverse.value, inverse.std_error)
    return Normaliser(up, down, bennett(work_up, work_down), ess_up, ess_down, len(draws), len(path.betas))


def _climb(path: Path, n_paths: int, generator: Generator) -> Tensor:
    """Log weights of paths from the base, shape ``(n_paths,)``."""
    y = whiten(path.base.sample(n_paths, generator), path.factor)
    work = torch.zeros(n_paths, dtype=torch.float64)
    for t in range(1, len(path.betas)):
        work += (path.betas[t] - path.betas[t - 1]) * _log_ratio(path.at(0), y)
        if t < len(path.betas) - 1:
            y = path.move(y, t, generator)
    return work


def _descend(path: Path, draws: Tensor, generator: Generator) -> Tensor:
    """The same sum along paths in the other direction, which start at draws of the target, shape ``(n_paths,)``."""
    y = whiten(draws, path.factor)
    work = torch.zeros(len(draws), dtype=torch.float64)
    for t in reversed(range(1, len(path.betas))):
        work += (path.betas[t] - path.betas[t - 1]) * _log_ratio(path.at(0), y)
        if t > 1:
            y = path.move(y, t - 1, generator)
    return work


def _log_mean_exp(log_weights: Tensor) -> tuple[Estimate, float]:
    """Log of the mean of the weights with its standard error by the delta method, and their effective number."""
    n = len(log_weights)
    total, squares = log_weights.logsumexp(0).item(), (2 * log_weights).logsumexp(0).item()
    ess = math.exp(2 * total - squares)
    return Estimate(total - math.log(n), math.sqrt(max(1 / ess - 1 / n, 0.0))), ess


def bennett(work_up: Tensor, work_down: Tensor) -> Estimate:
    """Log Z that balances both directions: sum sigmoid(work_up - log Z) = sum sigmoid(log Z - work_down).

    Args:
        work_up, work_down: log weights of paths up and down, both of shape ``(n,)``.
    """
    low, high = min(work_up.min().item(), work_down.min().item()), max(work_up.max().item(), work_down.max().item())
    log_z = 0.5 * (low + high)
    for _ in range(100):
        excess = ((work_up - log_z).sigmoid().sum() - (log_z - work_down).sigmoid().sum()).item()
        low, high = (log_z, high) if excess > 0 else (low, log_z)
        log_z = 0.5 * (low + high)
    variances = [
        (share.var() / share.mean().square() / len(share)).item()
        for share in ((work_up - log_z).sigmoid(), (log_z - work_down).sigmoid())
    ]
    return Estimate(log_z, math.sqrt(sum(variances)))
