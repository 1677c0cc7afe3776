"""Rows of outside libraries: their counts, their laws, and what happens where a library is absent.

The shared contract is in ``test_sampler_contract``.
"""

import importlib.metadata
import importlib.util
import math
import subprocess
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
from samplerbench.samplers import NotApplicableError
from samplerbench.samplers.ais import effective_size
from samplerbench.samplers.peers.blackjax_smc import log_z_of
from samplerbench.samplers.peers.boundary import Boundary, finite_starts
from samplerbench.samplers.peers.dynesty_nested import choose
from samplerbench.samplers.peers.jax_boundary import JaxDensity
from samplerbench.targets import Budget, BudgetReached, Draws, Meter, derive_generator

PACKAGES = {
    "emcee": "emcee",
    "dynesty": "dynesty",
    "pyro_nuts": "pyro",
    "nutpie_nuts": "nutpie",
    "blackjax_nuts": "blackjax",
    "blackjax_mclmc": "blackjax",
    "blackjax_smc": "blackjax",
}
CHAINS = ["emcee", "pyro_nuts", "nutpie_nuts", "blackjax_nuts", "blackjax_mclmc"]


def small(name: str) -> dict[str, object]:
    """Parameters that make a row quick."""
    return {"dynesty": {"n_live": 50}, "blackjax_smc": {"n_particles": 50, "n_runs": 10}}.get(name, {"burn_in": 20})


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
    pytest.importorskip(PACKAGES[name])  # importing may draw from them; fit restores them after that too
    before = global_states()
    first, again, other = (
        run(name, targets.get("gaussian2"), 50, seed, **small(name))[2].samples for seed in (0, 0, 1)
    )
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
    cost = run(name, targets.get("gaussian2"), 50, **small(name))[0].counts["draw"].gradient_equivalents
    meter = Meter(targets.get("gaussian2"), budget=Budget(draw=share * cost))
    with meter.phase("fit"):
        fitted = samplers.get(name, **small(name)).fit(meter, derive_generator(0, "fit"))
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
    def gap(n_samples: int) -> float:
        meter, _, draws = run("nutpie_nuts", targets.get("gaussian2"), n_samples, n_chains=2, burn_in=100)
        counts, n_leapfrog = meter.counts["draw"], draws.diagnostics["n_leapfrog"]
        assert counts.log_prob == counts.score + 2  # starts are looked at first
        assert isinstance(n_leapfrog, int)
        return counts.score - n_leapfrog

    assert 0 <= gap(100) <= 2 * 40  # the start of every chain, and the search for its first step
    assert gap(100) == gap(400)  # of the moves, none is paid that is not counted


def test_a_half_plane_does_not_stop_the_smc_of_blackjax() -> None:
    for seed in range(3):
        _, _, draws = run("blackjax_smc", Cut(), 100, seed=seed, n_runs=1, n_particles=256)
        assert draws.stopped is None, draws.reason


def test_importing_the_libraries_leaves_global_generators_alone() -> None:
    """But for blackjax, whose import ``fit`` isolates."""
    script = (
        "import importlib, numpy as np, random, torch\n"
        "before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()\n"
        "for name in {names}:\n    importlib.import_module(name)\n"
        "after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()\n"
        "assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]\n"
    )
    names = [name for name in {*PACKAGES.values()} - {"blackjax"} if importlib.util.find_spec(name)]
    if not names:
        pytest.skip("none of the packages is installed")
    subprocess.run([sys.executable, "-c", script.replace("{names}", repr(sorted(names)))], check=True)


def test_nuts_of_blackjax_pays_what_it_counts() -> None:
    meter, fitted, draws = run("blackjax_nuts", targets.get("gaussian2"), 40, n_chains=2, burn_in=40)
    starts = 2  # of both chains, in fit and in draw; in fit their values are looked at before
    counts = meter.counts
    assert counts["fit"].score == starts + fitted.diagnostics["n_leapfrog"]
    assert counts["fit"].log_prob == counts["fit"].score + starts
    assert counts["draw"].score == counts["draw"].log_prob == starts + draws.diagnostics["n_leapfrog"]  # type: ignore[operator]
    assert draws.diagnostics["n_moves"] == 20


def test_a_warm_up_that_is_cut_keeps_its_complete_moves() -> None:
    pytest.importorskip("blackjax")
    meter = Meter(targets.get("gaussian2"), dtype=torch.float64, budget=Budget(fit=201))
    fitted: Any = samplers.get("blackjax_nuts", n_chains=2, burn_in=400).fit(meter, derive_generator(0, "fit"))
    assert fitted.fit_stopped == "budget"
    n_unfinished = meter.counts["fit"].score - 2 - fitted.diagnostics["n_leapfrog"]  # of both chains' last moves
    assert 0 <= n_unfinished < 2 * 2**10
    assert meter.counts["fit"].score == 200  # each chain got the half of what the two values of the starts left
    assert fitted.diagnostics["n_leapfrog"] > 0
    assert (fitted.x != meter.start(2, derive_generator(0, "fit"))).all()


def test_mclmc_pays_two_scores_per_chain_and_step() -> None:
    meter, fitted, draws = run("blackjax_mclmc", targets.get("gaussian2"), 40, n_chains=4, burn_in=90, thinning=3)
    assert fitted.diagnostics["n_steps"] == 30 + 30 + 10 + 30
    assert vars(meter.counts["fit"]) == {"log_prob": 4 * (1 + 1 + 2 * 100), "score": 4 * (1 + 2 * 100), "hvp": 0}
    assert draws.diagnostics["n_steps"] == 30
    assert meter.counts["draw"].score == meter.counts["draw"].log_prob == 4 * (1 + 2 * 30)


def test_mclmc_tunes_its_step_to_the_error_in_energy() -> None:
    _, _, draws = run("blackjax_mclmc", targets.get("gaussian10"), 100, energy_variance=1e-3)
    assert 0.25e-3 < draws.diagnostics["energy_variance"] < 4e-3  # type: ignore[operator]


def test_mclmc_needs_two_dimensions() -> None:
    pytest.importorskip("blackjax")
    with pytest.raises(NotApplicableError, match="two dimensions"):
        samplers.get("blackjax_mclmc").fit(Meter(Line()), Generator().manual_seed(0))


def test_smc_of_blackjax_pays_what_it_counts() -> None:
    meter, _, draws = run("blackjax_smc", targets.get("gaussian2"), 50, n_runs=3, n_particles=40, n_moves=2)
    n_steps, n_of_pilot = draws.diagnostics["n_steps"], len(draws.diagnostics["bs"])  # type: ignore[arg-type]
    assert n_steps == (1 + 3) * n_of_pilot
    assert n_of_pilot >= 3
    counts = meter.counts["draw"]
    assert counts.score == n_steps * 40 * (1 + 2 * 5)
    assert counts.log_prob - counts.score == n_steps * 40 + n_of_pilot * 40  # the pilot looks for each b
    assert draws.log_z is None  # of three runs


@pytest.mark.parametrize("name", ["rings", "funnel2", "mog2"])
def test_log_z_of_blackjax_is_within_its_error(name: str) -> None:
    target = targets.get(name)
    _, _, draws = run("blackjax_smc", target)
    truth = target.log_z.value  # type: ignore[attr-defined]
    assert draws.log_z is not None
    assert 0 < draws.log_z.std_error < 0.1
    assert abs(draws.log_z.value - truth) < 4 * draws.log_z.std_error


def test_log_z_of_blackjax_is_not_biased_by_adaptation() -> None:
    target = targets.get("gaussian10")  # the mean over 20 seeds was off by 0.027 when all runs adapted
    estimates = [run("blackjax_smc", target, 10, seed, n_particles=64)[2].log_z for seed in range(8)]
    gaps = torch.tensor([each.value for each in estimates if each is not None], dtype=torch.float64)
    assert len(gaps) == 8
    assert gaps.mean().abs() < 4 * gaps.std() / math.sqrt(8)


def test_smc_draws_more_than_its_particles_from_more_particles() -> None:
    _, _, draws = run("blackjax_smc", targets.get("gaussian2"), 3_000, n_runs=10, n_particles=20)
    assert draws.diagnostics["n_particles"] == 300


def test_error_of_log_z_is_the_spread_of_the_runs_and_never_zero() -> None:
    estimate = log_z_of(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    z = np.exp([0.0, 1.0, 2.0])
    assert math.isclose(estimate.value, math.log(z.mean()))
    assert math.isclose(estimate.std_error, z.std(ddof=1) / math.sqrt(3) / z.mean())
    assert log_z_of(torch.ones(10, dtype=torch.float64)).std_error > 0


@pytest.mark.parametrize("name", CHAINS)
def test_chains_hold_the_draws(name: str) -> None:
    _, _, draws = run(name, targets.get("gaussian2"), 100, burn_in=20, thinning=1)
    assert draws.chains is not None
    n_chains, n_kept, dim = draws.chains.shape
    assert (n_chains * n_kept >= 100, dim) == (True, 2)
    assert torch.equal(draws.samples, draws.chains.transpose(0, 1).flatten(0, 1)[:100])


class Cut:
    """N(0, I) in the plane where x[0] > -1.3; zero density elsewhere."""

    dim = 2
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > -1.3, -0.5 * x.square().sum(-1), -math.inf)


class Half:
    """N(0, I) in the plane where x[0] > 0; NaN elsewhere."""

    dim = 2
    scale = 2.0

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 0, -0.5 * x.square().sum(-1), math.nan)


class Line:
    """N(0, 1)."""

    dim = 1
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


def test_a_density_of_jax_is_differentiated_with_one_score_per_point() -> None:
    jax = pytest.importorskip("jax")
    meter = Meter(Half(), dtype=torch.float64)
    density = JaxDensity()
    y = np.array([[1.0, 0.5], [-1.0, 0.5], [0.1, 1 / 3]])
    with density.of(Boundary(meter)):
        found = jax.jit(jax.vmap(jax.value_and_grad(density.log_prob)))(y)
        log_prob, score = map(np.asarray, found)
        assert vars(meter.counts["fit"]) == {"log_prob": 3, "score": 3, "hvp": 0}
        value = np.asarray(jax.jit(jax.vmap(density.log_prob))(y))
        assert vars(meter.counts["fit"]) == {"log_prob": 6, "score": 3, "hvp": 0}
    exact = Boundary(meter).log_prob_and_score(y)
    assert log_prob.dtype == np.float64
    assert (log_prob == exact[0]).all()
    assert (score == exact[1]).all()
    assert (value == exact[0]).all()
    assert jax.numpy.ones(1).dtype == np.float32  # outside of the block, as it was


def test_large_batches_reach_the_density_in_double_precision() -> None:
    jax = pytest.importorskip("jax")  # calls back from a thread of its own then, in which it rounds to float32
    density = JaxDensity()
    y = np.random.default_rng(0).normal(size=(300_000, 2))
    with density.of(Boundary(Meter(targets.get("gaussian2"), dtype=torch.float64))):
        log_prob = np.asarray(jax.jit(jax.vmap(density.log_prob))(y))
    assert (log_prob == Boundary(Meter(targets.get("gaussian2"), dtype=torch.float64)).log_prob(y)).all()


def test_many_callbacks_come_back() -> None:
    jax = pytest.importorskip("jax")
    density = JaxDensity()
    meter = Meter(targets.get("gaussian2"), dtype=torch.float64)

    def climb(y: Any) -> Any:
        return jax.lax.fori_loop(0, 3_000, lambda _, y: y + 0.01 * jax.grad(density.log_prob)(y), y)

    with density.of(Boundary(meter)):
        assert np.abs(np.asarray(jax.jit(climb)(np.ones(2)))).max() < 1e-6
    assert meter.counts["fit"].score == 3_000


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


def test_few_points_are_repeated_and_count_once() -> None:
    log_weights = torch.tensor([0.0, 1.0], dtype=torch.float64)
    rows, chosen = choose(log_weights, 5, Generator().manual_seed(0))
    assert rows.tolist() == [0, 1, 0, 1, 0]
    assert math.isclose(effective_size(chosen), effective_size(log_weights))
    assert torch.zeros(2, dtype=torch.float64).index_add_(0, rows, chosen.exp()).allclose(log_weights.exp())


def test_every_package_is_an_extra() -> None:
    extras = importlib.metadata.metadata("samplerbench").get_all("Provides-Extra") or []
    assert {*PACKAGES.values(), "peers"} <= {*extras}
