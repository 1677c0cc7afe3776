"""Rows of outside libraries: their counts, their laws, and what happens where a library is absent.

The shared contract is in ``test_sampler_contract``.
"""

import importlib.metadata
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.benchmarks.contract import global_states
from samplerbench.benchmarks.plan import make_plan, parse_suite
from samplerbench.benchmarks.run import execute
from samplerbench.benchmarks.sampler_subject import unweighted
from samplerbench.samplers.peers.boundary import Boundary, finite_starts
from samplerbench.samplers.peers.dynesty_nested import choose
from samplerbench.targets import Budget, BudgetReached, Draws, Meter, derive_generator

PACKAGES = {"emcee": "emcee", "dynesty": "dynesty", "pyro_nuts": "pyro", "nutpie_nuts": "nutpie"}
CHAINS = ["emcee", "pyro_nuts", "nutpie_nuts"]


def run(
    name: str, target: Any, n_samples: int = 1_000, seed: int = 0, **parameters: object
) -> tuple[Meter, Any, Draws]:
    """A fit and a draw, or a skip where the row's package is absent."""
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    meter = Meter(target, dtype=torch.float64)
    with meter.phase("fit"):
        fitted = samplers.get(name, **parameters).fit(meter, derive_generator(seed, "fit"))
    with meter.phase("draw"):
        return meter, fitted, fitted.draw(n_samples, derive_generator(seed, "draw"))


@pytest.mark.parametrize("target_name", ["gaussian2", "mog2"])
@pytest.mark.parametrize("name", PACKAGES)
def test_moments_agree_with_the_truth(name: str, target_name: str) -> None:
    target = targets.get(target_name)
    quick = {"burn_in": 150} if name == "pyro_nuts" else {}  # interpreted: milliseconds per score
    _, _, draws = run(name, target, 400, **quick)
    x, n_effective = unweighted(draws)
    truth = target.moments  # type: ignore[attr-defined]
    z = (torch.cat([x, x.square()], 1).mean(0) - truth.mean) / (truth.variance / n_effective).sqrt()
    assert draws.stopped is None
    assert (z.abs() < 4).all(), z


@pytest.mark.parametrize("name", PACKAGES)
def test_the_seed_alone_decides_and_global_states_stay(name: str) -> None:
    small = {"n_live": 50} if name == "dynesty" else {"burn_in": 20}
    before = global_states()
    first, again, other = (run(name, targets.get("gaussian2"), 50, seed, **small)[2].samples for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert global_states() == before


@pytest.mark.parametrize("name", PACKAGES)
def test_without_its_package_a_row_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    assert name in samplers.names()
    suite = parse_suite(
        {"n_samples": 10, "metrics": ["sliced_w2"], "targets": ["gaussian2"], "samplers": [name]}, "absent"
    )
    record, draws = execute(make_plan(suite)[0])
    assert draws is None
    assert record.status == "not_installed"
    assert record.reason == f"needs the package {PACKAGES[name]}"


@pytest.mark.parametrize("share", [0.02, 0.7])
@pytest.mark.parametrize("name", PACKAGES)
def test_a_budget_leaves_finite_rows(name: str, share: float) -> None:
    pytest.importorskip(PACKAGES[name])
    small = {"n_live": 50} if name == "dynesty" else {"burn_in": 20}
    cost = run(name, targets.get("gaussian2"), 50, **small)[0].counts["draw"].gradient_equivalents
    meter = Meter(targets.get("gaussian2"), budget=Budget(draw=share * cost))
    with meter.phase("fit"):
        fitted = samplers.get(name, **small).fit(meter, derive_generator(0, "fit"))
    with meter.phase("draw"):
        draws = fitted.draw(50, derive_generator(0, "draw"))
    assert draws.stopped == "budget"
    assert draws.log_z is None
    assert draws.samples.isfinite().all()
    assert meter.counts["draw"].gradient_equivalents <= share * cost


def test_emcee_pays_a_value_per_walker_and_move() -> None:
    meter, fitted, _ = run("emcee", targets.get("gaussian2"), 100, n_chains=10, burn_in=30, thinning=2)
    assert vars(meter.counts["fit"]) == {"log_prob": 10 * (2 + 30), "score": 0, "hvp": 0}  # found finite, then again
    assert vars(meter.counts["draw"]) == {"log_prob": 10 * (1 + 2 * 10), "score": 0, "hvp": 0}
    assert 0.2 < fitted.diagnostics["acceptance_rate"] < 0.9


def test_emcee_has_two_walkers_per_dimension_at_least() -> None:
    _, _, draws = run("emcee", targets.get("funnel10"), 40, n_chains=4, burn_in=3, thinning=1)
    assert draws.chains is not None
    assert draws.chains.shape == (20, 2, 10)


def test_dynesty_pays_what_it_counts() -> None:
    meter, _, draws = run("dynesty", targets.get("gaussian2"), 100, n_live=60)
    assert draws.diagnostics["n_calls"] == meter.counts["draw"].log_prob
    assert meter.counts["draw"].score == 0


@pytest.mark.parametrize("name", ["rings", "funnel2"])
def test_log_z_of_dynesty_is_within_its_error(name: str) -> None:
    target = targets.get(name)
    _, _, draws = run("dynesty", target)
    truth = target.log_z.value  # type: ignore[attr-defined]
    assert draws.log_z is not None
    assert 0 < draws.log_z.std_error < 0.5
    assert abs(draws.log_z.value - truth) < 4 * draws.log_z.std_error


def test_pyro_pays_what_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    nuts, hmc = (pytest.importorskip(f"pyro.infer.mcmc.{module}") for module in ("nuts", "hmc"))
    n_gradients = 0
    verlet = nuts.velocity_verlet

    def counted(*args: Any, z_grads: Any = None, **kwargs: Any) -> Any:
        nonlocal n_gradients
        n_gradients += 2 if z_grads is None else 1  # at both ends of a leapfrog step, or only at its new one
        return verlet(*args, z_grads=z_grads, **kwargs)

    monkeypatch.setattr(nuts, "velocity_verlet", counted)
    monkeypatch.setattr(hmc, "velocity_verlet", counted)  # in the search for a first step
    meter, _, draws = run("pyro_nuts", targets.get("gaussian2"), 20, n_chains=2, burn_in=20)
    assert draws.diagnostics["n_moves"] == 10
    starts = 2 * 2  # of both chains, in fit and in draw
    assert meter.counts["fit"].score + meter.counts["draw"].score == n_gradients + starts
    assert meter.counts["draw"].log_prob == meter.counts["draw"].score


def test_nutpie_pays_what_it_counts() -> None:
    meter, _, draws = run("nutpie_nuts", targets.get("gaussian2"), 100, n_chains=2, burn_in=100)
    counts, n_leapfrog = meter.counts["draw"], draws.diagnostics["n_leapfrog"]
    assert counts.log_prob == counts.score + 2  # starts are looked at first
    assert isinstance(n_leapfrog, int)
    assert 0 <= counts.score - n_leapfrog <= 2 * 40  # the start of every chain, and the search for its first step


@pytest.mark.parametrize("name", CHAINS)
def test_chains_hold_the_draws(name: str) -> None:
    _, _, draws = run(name, targets.get("gaussian2"), 100, burn_in=20, thinning=1)
    assert draws.chains is not None
    n_chains, n_kept, dim = draws.chains.shape
    assert (n_chains * n_kept >= 100, dim) == (True, 2)
    assert torch.equal(draws.samples, draws.chains.transpose(0, 1).flatten(0, 1)[:100])


class Half:
    """N(0, I) in the plane where x[0] > 0; NaN elsewhere."""

    dim = 2
    scale = 2.0

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 0, -0.5 * x.square().sum(-1), math.nan)


def test_a_boundary_answers_zero_density_after_an_error_and_remembers_it() -> None:
    boundary = Boundary(Meter(Half(), dtype=torch.float64, budget=Budget(fit=2)))
    y = np.array([[1.0, 0.5], [-1.0, 0.5]])
    log_prob, score = boundary.log_prob_and_score(y)
    assert log_prob.tolist() == [-2.5, -math.inf]
    assert score.tolist() == [[-4.0, -2.0], [0.0, 0.0]]  # scale * (-scale y), and nothing where there is NaN
    log_prob, score = boundary.log_prob_and_score(y)
    assert np.isneginf(log_prob).all()
    assert not score.any()
    with pytest.raises(BudgetReached):
        boundary.check()


def test_starts_are_where_the_density_is_finite() -> None:
    x = finite_starts(Meter(Half()), 100, Generator().manual_seed(0))
    assert x.shape == (100, 2)
    assert (x[:, 0] > 0).all()


def test_chosen_points_keep_the_expectation_of_every_weight() -> None:
    log_weights = torch.tensor([0.0, 3.0, -1.0, 1.0, -math.inf, 0.5], dtype=torch.float64)
    generator = Generator().manual_seed(0)
    total, n = torch.zeros(6, dtype=torch.float64), 4_000
    for _ in range(n):
        rows, chosen = choose(log_weights, 3, generator)
        assert len(rows.unique()) == 3
        total.index_add_(0, rows, chosen.exp())
    gap = (total / n - log_weights.exp()).abs()
    largest = (log_weights.exp().sum() - math.exp(3)) / 2  # weight of a drawn row
    assert (gap <= 4 * largest / (2 * math.sqrt(n))).all()


def test_few_points_are_repeated_and_share_their_weight() -> None:
    log_weights = torch.tensor([0.0, 1.0], dtype=torch.float64)
    rows, chosen = choose(log_weights, 5, Generator().manual_seed(0))
    assert rows.tolist() == [0, 1, 0, 1, 0]
    assert torch.zeros(2, dtype=torch.float64).index_add_(0, rows, chosen.exp()).allclose(log_weights.exp())


def test_every_package_is_an_extra() -> None:
    extras = importlib.metadata.metadata("samplerbench").get_all("Provides-Extra") or []
    assert {*PACKAGES.values(), "peers"} <= {*extras}
