"""The checks behind a target's certificate: its density, draws, log normaliser and mode masses against each other.

Every check is a function of a Subject that returns rows; one check alone misses published errors that another sees.
"""

import hashlib
import json
import math
from collections.abc import Callable
from importlib import resources

import torch
from torch import Generator, Tensor

from ..samplers.adaptation import StepAdaptation
from ..samplers.base import State
from ..samplers.kernels import MALAKernel
from ..targets.base import (
    HasMarginals,
    HasModes,
    HasMoments,
    HasScore,
    HasWildScore,
    Marginal,
    Target,
    normal,
)
from ..targets.datasets import DataFileError
from ..targets.marginals import coordinate
from ..targets.meter import Meter
from .agreement import MAX_STANDARD_ERRORS, MIN_ESS_SHARE, score_of, two_sided_quantile
from .annealing import fit_base, laplace_base, log_normaliser, plan_path, whiten
from .evidence import agrees
from .reference import Whitened
from .spot_values import check_spot_values
from .subject import Row, Subject, Verdict

LEVEL = 1e-5  # of the tests by p-value
MAX_EXACT_LAPLACIAN = 64  # coordinates; above them one Rademacher probe on at most 2,000 draws
MAX_GRID_ERROR = 1e-4  # of a planar quadrature; a density too narrow for the grid is annealed like the others
MIN_EXPECTED = 10  # draws in a cell of a chi-square test
N_DRIFT_MOVES, ACCEPTANCE = 30, 0.6
MIN_ACCEPTANCE = 0.2  # below it too few draws move for the drift to say anything
MAX_LOG_Z_ERROR = 0.3  # nats: an estimate with a larger standard error certifies nothing
SCORE_TOLERANCE = 1e-5
NO_DATA = "its data file is not here; samplerbench check says where to get it"


def check_stein(subject: Subject) -> list[Row]:
    """E[(x - c) . score] = -dim, c the mean: any scale or shape of the draws that the density does not have."""
    centre = subject.pilot.mean(0)
    x = subject.main_draws
    products = torch.cat([((p - centre) * score_of(subject.target, p)).sum(-1) for p in subject.blocks(x)])
    if not subject.is_exact:  # the centre is the mean of the same draws
        products *= len(x) / (len(x) - 1)
    return [subject.mean_row("stein", products, -float(subject.target.dim), f"{len(x)} draws")]


def check_laplacian(subject: Subject) -> list[Row]:
    """E[laplacian + |score|^2] = 0, laplacian of the log density."""
    target = subject.target
    if isinstance(target, HasWildScore):
        return subject.without("laplacian", target.wild_score)
    exact = target.dim <= MAX_EXACT_LAPLACIAN
    n = min(subject.effort.n_laplacian, 400_000 // target.dim) if exact else min(subject.effort.n_laplacian // 5, 2_000)
    generator = subject.generator("laplacian")
    values = []
    for part in torch.split(subject.main_draws[:n], max(20, 20_000 // target.dim)):
        x = part.clone().requires_grad_()
        (score,) = torch.autograd.grad(target.log_prob(x).sum(), x, create_graph=True)
        laplacian = _exact_laplacian(score, x) if exact else _probed_laplacian(score, x, generator)
        values.append((laplacian + score.square().sum(-1)).detach())
    return [subject.mean_row("laplacian", torch.cat(values), 0.0)]


def _exact_laplacian(score: Tensor, x: Tensor) -> Tensor:
    if not score.requires_grad:  # a score that does not depend on x
        return torch.zeros(len(x), dtype=x.dtype)
    rows = [torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[-1])]
    return torch.stack(rows).sum(0)


def _probed_laplacian(score: Tensor, x: Tensor, generator: Generator) -> Tensor:
    signs = 2.0 * torch.randint(0, 2, x.shape, generator=generator).to(x.dtype) - 1
    (product,) = torch.autograd.grad((score * signs).sum(), x)
    return (product * signs).sum(-1)


def check_marginals(subject: Subject) -> list[Row]:
    """Kolmogorov-Smirnov of statistics whose law is known: by the target, and in the plane by quadrature."""
    from scipy.special import kolmogorov

    target = subject.target
    marginals = list(target.marginals) if isinstance(target, HasMarginals) else []
    if target.dim == 2 and subject.grid.error < MAX_GRID_ERROR:
        marginals += [Marginal(f"x[{i}] by quadrature", coordinate(i), subject.grid.cdf(i)) for i in range(2)]
    if not marginals:
        return subject.without("marginal", "no law of a statistic is known by itself")
    x = subject.main_draws
    root = math.sqrt(len(x))
    rows = []
    for marginal in marginals:
        p = marginal.cdf(marginal.statistic(x).sort().values).double()
        steps = torch.arange(len(x) + 1, dtype=torch.float64) / len(x)
        distance = torch.maximum((steps[1:] - p).max(), (p - steps[:-1]).max()).item()
        passed = float(kolmogorov(root * distance)) > LEVEL / len(marginals)
        # mean and standard deviation of Kolmogorov's distribution
        rows.append(subject.row(f"marginal {marginal.name}", distance, 0.8687 / root, 0.2603 / root, passed))
    return rows


def check_moments(subject: Subject) -> list[Row]:
    """The stated means and variances of the view's coordinates and their squares; each row shows the worst."""
    target = subject.target
    if not isinstance(target, HasMoments):
        return subject.without("moments", "no moments are stated")
    v = subject.view(subject.main_draws)
    limit = two_sided_quantile(LEVEL / (2 * target.dim))
    n_effective = len(v) * (1 if subject.is_exact else MIN_ESS_SHARE)
    f = torch.cat([v, v.square()], dim=-1)
    squares = (f - target.moments.mean).square()
    rows = []
    for check, values, stated in (("moments", f, target.moments.mean), ("variances", squares, target.moments.variance)):
        mean, std_error = values.mean(0), values.std(0) / math.sqrt(n_effective)
        errors = (mean - stated).abs() / std_error
        worst = int(errors.nan_to_num(nan=math.inf).argmax())
        passed = errors[worst].item() < limit
        rows.append(subject.row(check, mean[worst].item(), stated[worst].item(), std_error[worst].item(), passed))
    return rows


def check_mode_masses(subject: Subject) -> list[Row]:
    """Chi-square of the draws' modes against the masses of the same assignment, cells below 10 merged."""
    from scipy.stats import chi2

    target = subject.target
    if not isinstance(target, HasModes):
        return subject.without("mode_masses", "no modes are stated")
    modes, x = target.modes, subject.main_draws
    assigned = torch.cat([modes.assign(part) for part in subject.blocks(x)])
    counts = torch.bincount(assigned + 1, minlength=len(modes.masses) + 1).double()
    expected = len(x) * torch.cat([1 - modes.masses.sum(0, keepdim=True), modes.masses])
    order = expected.argsort()
    counts, expected = counts[order], expected[order]
    # the smallest cells are merged until they expect 10 draws together
    n_merged = int((expected.cumsum(0) < MIN_EXPECTED).sum()) + 1 if expected[0] < MIN_EXPECTED else 1
    counts = torch.cat([counts[:n_merged].sum(0, keepdim=True), counts[n_merged:]])
    expected = torch.cat([expected[:n_merged].sum(0, keepdim=True), expected[n_merged:]])
    statistic, freedom = ((counts - expected).square() / expected).sum().item(), max(1, len(counts) - 1)
    passed = float(chi2.sf(statistic, freedom)) > LEVEL
    return [subject.row("mode_masses", statistic, freedom, math.sqrt(2 * freedom), passed)]


def check_log_z(subject: Subject) -> list[Row]:
    """The stated log normaliser against quadrature in the plane, else against annealing up and down."""
    target = subject.target
    if not _states_log_z(target):
        return subject.without("log_z", "no log normaliser is stated")
    stated = target.log_z  # type: ignore[attr-defined]
    if target.dim == 2 and subject.has_draws and subject.grid.error < MAX_GRID_ERROR:
        error = math.hypot(subject.grid.error, stated.std_error)
        passed = abs(subject.grid.log_z - stated.value) < 4 * error + 1e-6
        return [subject.row("log_z", subject.grid.log_z, stated.value, error, passed, "quadrature")]
    n, fitted = subject.effort.n_paths, subject.draws(max(20_000, 100 * target.dim), "base")
    if subject.is_exact:
        ends = subject.draws(n, "paths")
    else:
        ends, fitted = fitted.tensor_split([min(n, len(fitted) // 3)])
    generator = subject.generator("annealing")
    try:
        few = len(fitted) < 2 * target.dim
        base = laplace_base(target, fitted.mean(0)) if few else fit_base(target, fitted)
        path = plan_path(target, base, fitted, generator)
    except ValueError as refusal:
        return subject.without("log_z", str(refusal), "uncertified")
    estimate = log_normaliser(path, ends, generator)
    how = (
        f"annealing, {estimate.n_paths} paths of {estimate.n_temperatures} temperatures: up {estimate.up.value:.4f} "
        f"+- {estimate.up.std_error:.4f}, down {estimate.down.value:.4f} +- {estimate.down.std_error:.4f}"
    )
    error = math.hypot(estimate.both.std_error, stated.std_error)
    passed = abs(estimate.both.value - stated.value) < MAX_STANDARD_ERRORS * error + 1e-9
    # of a posterior, the two estimators behind the shipped value certify it, and this shorter annealing may not differ
    evidence = _evidence_agrees(subject)
    weak = error > MAX_LOG_Z_ERROR if evidence is None else not evidence
    verdict: bool | Verdict = "uncertified" if weak else passed
    return [subject.row("log_z", estimate.both.value, stated.value, error, verdict, how)]


def _evidence_agrees(subject: Subject) -> bool | None:
    """Whether the two estimators behind a shipped log normaliser agreed; None where none is shipped."""
    file = resources.files("samplerbench.targets.data") / f"{subject.name.split('@')[0]}.evidence.json"
    return agrees(json.loads(file.read_text())) if file.is_file() else None


def check_drift(subject: Subject) -> list[Row]:
    """30 MALA moves from the draws leave log_prob and |v|^2 unchanged on average, v the view; paired."""
    target, generator = subject.target, subject.generator("drift")
    pilot = subject.pilot
    many = len(pilot) > 20 * target.dim
    factor = torch.linalg.cholesky(pilot.T.cov().reshape(2 * (target.dim,))) if many else torch.diag(pilot.std(0))
    meter = Meter(Whitened(target, factor), dtype=torch.float64)
    adaptation = StepAdaptation(0.5 / target.dim ** (1 / 3), ACCEPTANCE)
    state = State.at(whiten(pilot[:500], factor), meter)
    for _ in range(100):
        state = MALAKernel(adaptation.step)(state, meter, generator)
        adaptation.update(state.acceptance)
    kernel, changes, accepted = MALAKernel(adaptation.frozen()), [], []
    n_draws = min(subject.effort.n_drift, 2_000_000 // target.dim)
    for part in subject.blocks(subject.draws(n_draws, "drift")):
        start = state = State.at(whiten(part, factor), meter)
        for _ in range(N_DRIFT_MOVES):
            state = kernel(state, meter, generator)
            accepted.append(state.acceptance.mean().item())
        radius2 = subject.view(state.x @ factor.T).square().sum(-1) - subject.view(part).square().sum(-1)
        changes.append(torch.stack([state.log_prob - start.log_prob, radius2], dim=-1))
    change = torch.cat(changes)
    acceptance = sum(accepted) / len(accepted)
    how = f"{N_DRIFT_MOVES} moves, acceptance {acceptance:.2f}"
    if acceptance < MIN_ACCEPTANCE:
        return subject.without("drift", how, "uncertified")
    return [
        subject.mean_row(f"drift of {what}", change[:, i], 0.0, how) for i, what in enumerate(("log_prob", "|v|^2"))
    ]


def check_score(subject: Subject) -> list[Row]:
    """Derivatives along random directions against differences in float64: score by autograd, own score, Hessian."""
    target, generator = subject.target, subject.generator("score")
    points = subject.draws(20, "score") if subject.has_draws else _start(subject, 20)
    direction = normal(len(points), target.dim, generator)
    direction /= direction.norm(dim=-1, keepdim=True)
    h = 1e-6 * target.scale

    def error(derivative: Tensor, ahead: Tensor, behind: Tensor, unit: float) -> float:
        """Largest error over the points, each relative to the size of its own derivative, and to rounding."""
        difference = (ahead - behind) / (2 * h)
        size = unit + derivative.abs() + difference.abs() + 1e-10 * (ahead.abs() + behind.abs()) / h
        errors = (derivative - difference).abs().reshape(len(points), -1).amax(-1)
        return (errors / size.reshape(len(points), -1).amax(-1)).max().item()

    def row(check: str, value: float) -> Row:
        return subject.row(check, value, 0.0, math.nan, value < SCORE_TOLERANCE)

    x = points.clone().requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(x).sum(), x, create_graph=True)
    along = (score * direction).sum(-1)
    ahead, behind = points + h * direction, points - h * direction
    values = [target.log_prob(y).detach() for y in (ahead, behind)]
    rows = [row("score", error(along.detach(), values[0], values[1], 1 / target.scale))]
    if isinstance(target, HasScore):
        errors = (target.score(points) - score.detach()).abs().amax(-1) / (
            1 / target.scale + score.detach().abs().amax(-1)
        )
        rows.append(row("score, the target's own", errors.max().item()))
    if along.requires_grad:
        (hvp,) = torch.autograd.grad(along.sum(), x)
        curvature = error(hvp, score_of(target, ahead), score_of(target, behind), target.scale**-2)
        rows.append(row("double backward", curvature))
    else:
        rows += subject.without("double backward", "the score does not depend on x, or has no graph")
    return rows


def _start(subject: Subject, n: int) -> Tensor:
    meter = Meter(subject.target, dtype=torch.float64)
    return meter.start(n, subject.generator("start"))


def check_reference(subject: Subject) -> list[Row]:
    """Where exact draws are impossible: whether the shipped ones carry a certificate of two runs that agree."""
    if subject.is_exact:
        return subject.without("reference", "exact draws")
    if not subject.has_draws:
        reason = subject.missing_reference or "neither exact nor certified reference draws"
        return subject.without("reference", reason, "uncertified")
    name = subject.name.split("@")[0]
    file = resources.files("samplerbench.targets.data") / f"{name}.json"
    if not file.is_file():
        return subject.without("reference", f"no certificate {name}.json beside the draws", "uncertified")
    certificate = json.loads(file.read_text())
    if certificate["target"] != subject.name:
        return subject.without("reference", f"the shipped draws are those of {certificate['target']}", "fail")
    failed = float(sum(not check["passed"] for check in certificate["checks"]))
    verdict: Verdict = "pass" if certificate["verdict"] == "certified" and not failed else "uncertified"
    packed = (resources.files("samplerbench.targets.data") / f"{name}.npz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != certificate["sha256"]:
        return subject.without("reference", f"{name}.npz is not the file that was certified", "fail")
    reason = certificate["reason"] or f"{len(certificate['checks'])} checks of two runs passed"
    return [subject.row("reference", failed, 0.0, 0.0, verdict, reason)]


OF_DENSITY = (check_spot_values, check_score)
OF_DRAWS = (
    check_reference,
    check_stein,
    check_laplacian,
    check_marginals,
    check_moments,
    check_mode_masses,
    check_log_z,
    check_drift,
)


def _rows(check: Callable[[Subject], list[Row]], subject: Subject) -> list[Row]:
    """The rows of one check; what it raises is a row, and the other checks go on."""
    name = check.__name__.removeprefix("check_")
    if check in OF_DRAWS and check is not check_reference and not subject.has_draws:
        stated = check is check_log_z and _states_log_z(subject.target)
        return subject.without(name, "no draws", "uncertified" if stated else "not_applicable")
    try:
        return check(subject)
    except DataFileError:  # where it was looked for belongs to this machine, not into a certificate
        return subject.without(name, NO_DATA, "uncertified")
    except FileNotFoundError as error:  # data, reference draws or a log normaliser that are not there
        return subject.without(name, str(error), "uncertified")
    except Exception as error:  # a broken target is a failure, not the end of its certificate
        return subject.without(name, f"{type(error).__name__}: {error}", "fail")


def _states_log_z(target: Target) -> bool:
    """Whether log_z is stated: asked of the class or the instance, for its value could need a file."""
    return hasattr(type(target), "log_z") or "log_z" in vars(target)


def certify(subject: Subject) -> list[Row]:
    """All checks, and the row ``certificate`` that sums them up: fail before uncertified before pass."""
    rows = [row for check in (*OF_DENSITY, *OF_DRAWS) for row in _rows(check, subject)]
    failed = [row for row in rows if row.verdict == "fail"]
    missing = [row for row in rows if row.verdict == "uncertified"]
    verdict: Verdict = "fail" if failed else "uncertified" if missing else "pass"
    reason = "; ".join(row.check + (f": {row.reason}" if row.reason else "") for row in failed or missing)
    return [*rows, subject.row("certificate", float(len(failed)), 0.0, 0.0, verdict, reason)]
