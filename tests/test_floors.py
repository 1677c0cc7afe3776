import math
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom, ks_2samp
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.benchmarks.floor_finder import Law
from samplerbench.benchmarks.floors import REPEATS, Floor, compute_floors, load_floor, main, n_repeats
from samplerbench.benchmarks.plan import load_suite, make_plan, suite_names
from samplerbench.benchmarks.truth import TruthSource
from samplerbench.metrics.base import METRICS
from samplerbench.targets import Draws, Modes, Moments, derive_generator
from samplerbench.targets.base import TARGETS, normal
from samplerbench.targets.datasets import DataFileError

SHIPPED = sorted(
    (
        file
        for file in (resources.files("samplerbench.benchmarks.data") / "floors").iterdir()
        if file.name.endswith(".npz")
    ),
    key=lambda file: file.name,
)

LAWS = {law.stem: law for law in (Law(name, TARGETS.entry(name).version, {}, None) for name in TARGETS.names())}
LAWS |= {law.stem: law for law in (Law.of(run) for name in suite_names() for run in make_plan(load_suite(name)))}


class Density:
    """The density of N(0, I_2)."""

    dim, scale = 2, 1.0
    moments = Moments(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 2.0, 2.0]))

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


@dataclass
class Gaussian(Density):
    """N(0, I_2) with exact draws; ``before_sample`` is called with the number of the call."""

    before_sample: Callable[[int], None] = lambda call: None
    n_calls: int = field(default=0, init=False)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        self.n_calls += 1
        self.before_sample(self.n_calls)
        return normal(n_samples, self.dim, generator)


class Halves(Gaussian):
    """N(0, I_2) with two half planes as its modes."""

    modes = Modes(lambda x: (x[:, 0] > 0).long(), torch.tensor([0.5, 0.5], dtype=torch.float64))


class Shipped(Density):
    """N(0, I_2) with 400 reference draws."""

    def reference(self) -> Tensor:
        return normal(400, self.dim, derive_generator("reference"))


def floor(*null: float, kind: str = "non-negative") -> Floor:
    return Floor(np.sort(np.array(null, np.float32)), kind)  # type: ignore[arg-type]


def test_floor_is_the_median_of_distances_and_the_95_percent_point_of_centred_statistics() -> None:
    null = [float(i) for i in range(101)]
    assert floor(*null).value == 50
    assert floor(*null, kind="centred").value == 95


def test_z_ratio_and_p_value() -> None:
    known = floor(1.0, 2.0, 3.0, 6.0)
    assert known.ratio(5.0) == 2.0
    assert math.isclose(known.z(3.0 + math.sqrt(14 / 3)), 1.0, rel_tol=1e-7)
    assert [known.p(value) for value in (0.0, 1.0, 2.5, 6.0, 7.0)] == [1.0, 1.0, 0.6, 0.4, 0.2]
    assert known.at_floor(6.0)
    assert not known.at_floor(6.1)


def test_a_centred_estimate_far_below_zero_is_not_at_the_floor() -> None:
    known = floor(-2.0, -1.0, 0.0, 1.0, 2.0, kind="centred")
    assert known.at_floor(-2.0)
    assert not known.at_floor(-2.1)


def test_ties_stay_ties_in_single_precision() -> None:
    known = floor(*[0.1] * 10)
    assert known.p(0.1) == 1.0
    assert known.at_floor(0.1)


def test_a_null_law_of_zeros_leaves_no_ratio_above() -> None:
    known = floor(0.0, 0.0, 0.0)
    assert known.ratio(0.0) == 1.0
    assert known.ratio(0.1) == math.inf
    assert math.isnan(known.z(0.1))


def test_null_values_are_those_of_fresh_independent_samples(tmp_path: Path) -> None:
    """With a fresh truth each time, p-values of exact draws are uniform."""
    metrics = {"energy_w1": 20, "moment_bias2": 20}
    compute_floors("gaussian", 1, Gaussian(), metrics, repeats=dict.fromkeys(metrics, 1_000), folder=tmp_path)
    source, values = TruthSource(Gaussian()), []
    for seed in range(1_000):
        draws = Draws(samples=normal(20, 2, derive_generator("draws", seed)))
        truth = source.at(20, seed)
        values.append([METRICS.get(name)(draws, truth, seed=seed)[name] for name in metrics])
    for name, fresh in zip(metrics, np.array(values).T, strict=True):
        known = load_floor("gaussian", 1, name, 1, 20, folder=tmp_path)
        assert known is not None
        assert len(known.null) == 1_000
        p_values = [known.p(value) for value in fresh]
        own = [known.p(value) for value in known.null]  # uniform on 1 / (1 + m), ..., 1
        assert ks_2samp(p_values, own).pvalue > 1e-4
        share, error = np.mean([known.at_floor(value) for value in fresh]), math.sqrt(2 * 0.95 * 0.05 / 1_000)
        assert abs(share - 0.95) < 5 * error


def test_null_mean_of_mode_tv_is_the_mean_absolute_deviation_of_a_binomial(tmp_path: Path) -> None:
    compute_floors("halves", 1, Halves(), {"mode_tv": 40}, repeats={"mode_tv": 500}, folder=tmp_path)
    known = load_floor("halves", 1, "mode_tv", 1, 40, folder=tmp_path)
    counts = np.arange(41)
    exact = binom.pmf(counts, 40, 0.5) @ np.abs(counts / 40 - 0.5)
    assert known is not None
    assert abs(known.mean - exact) < 5 * known.sd / math.sqrt(500)


def test_an_interrupted_computation_ends_with_the_same_file(tmp_path: Path) -> None:
    def interrupt(call: int) -> None:
        if call == 81:  # after 12 for bandwidth, spacing and w2, two per repeat: in repeat 35 of 50
            raise KeyboardInterrupt

    metrics, repeats = {"energy_w1": 10, "moment_bias2": 10, "w2": 8}, {"energy_w1": 50, "moment_bias2": 50, "w2": 5}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    compute_floors("gaussian", 1, Gaussian(), metrics, repeats=repeats, folder=whole)
    with pytest.raises(KeyboardInterrupt):
        compute_floors("gaussian", 1, Gaussian(before_sample=interrupt), metrics, repeats=repeats, folder=broken)
    assert (broken / "gaussian.partial").exists()
    resumed = Gaussian()
    compute_floors("gaussian", 1, resumed, metrics, repeats=repeats, folder=broken)
    assert resumed.n_calls == 2 + 2 * 30  # neither w2 nor the first 20 repeats were computed again
    assert (broken / "gaussian.npz").read_bytes() == (whole / "gaussian.npz").read_bytes()
    assert [file.name for file in broken.iterdir()] == ["gaussian.npz"]


def test_what_is_finished_is_not_computed_again_and_other_metrics_stay(tmp_path: Path) -> None:
    compute_floors("gaussian", 1, Gaussian(), {"energy_w1": 10}, repeats={"energy_w1": 30}, folder=tmp_path)
    target = Gaussian()
    compute_floors("gaussian", 1, target, {"energy_w1": 10}, repeats={"energy_w1": 30}, folder=tmp_path)
    assert target.n_calls == 0
    compute_floors("gaussian", 1, target, {"moment_bias2": 10}, repeats={"moment_bias2": 30}, folder=tmp_path)
    assert load_floor("gaussian", 1, "energy_w1", 1, 10, folder=tmp_path)
    assert load_floor("gaussian", 1, "moment_bias2", 1, 10, folder=tmp_path)


def test_a_new_version_of_the_target_starts_anew(tmp_path: Path) -> None:
    for version in (1, 2):
        compute_floors("gaussian", version, Gaussian(), {"energy_w1": 10}, repeats={"energy_w1": 3}, folder=tmp_path)
    assert load_floor("gaussian", 1, "energy_w1", 1, 10, folder=tmp_path) is None
    assert load_floor("gaussian", 2, "energy_w1", 1, 10, folder=tmp_path)


def test_there_is_no_floor_where_none_was_computed(tmp_path: Path) -> None:
    assert load_floor("gaussian", 1, "energy_w1", 1, 10, folder=tmp_path) is None
    assert load_floor("no_such_target", 1, "energy_w1", 1, 10) is None
    compute_floors("gaussian", 1, Gaussian(), {"energy_w1": 10}, repeats={"energy_w1": 3}, folder=tmp_path)
    assert load_floor("gaussian", 1, "energy_w1", 1, 10, folder=tmp_path)
    assert load_floor("gaussian", 1, "energy_w1", 1, 11, folder=tmp_path) is None
    assert load_floor("gaussian", 1, "energy_w1", 2, 10, folder=tmp_path) is None
    assert load_floor("gaussian", 1, "mmd2", 1, 10, folder=tmp_path) is None


def test_metrics_for_which_the_target_knows_too_little_are_left_out(tmp_path: Path) -> None:
    metrics = {"mode_tv": 10, "energy_w1": 10}
    compute_floors("gaussian", 1, Gaussian(), metrics, repeats=dict.fromkeys(metrics, 3), folder=tmp_path)
    assert load_floor("gaussian", 1, "mode_tv", 1, 10, folder=tmp_path) is None
    assert load_floor("gaussian", 1, "energy_w1", 1, 10, folder=tmp_path)


def test_reference_draws_give_floors_up_to_half_of_them(tmp_path: Path) -> None:
    compute_floors("shipped", 1, Shipped(), {"sliced_w2": 200}, repeats={"sliced_w2": 5}, folder=tmp_path)
    assert load_floor("shipped", 1, "sliced_w2", 1, 200, folder=tmp_path)
    with pytest.raises(ValueError, match="from 1 to half of the 400 reference draws of Shipped, got 201"):
        compute_floors("shipped", 1, Shipped(), {"sliced_w2": 201}, repeats={"sliced_w2": 5}, folder=tmp_path)


def test_command_line_computes_the_floors_of_a_registered_target(tmp_path: Path) -> None:
    main(["donut", "--metrics", "energy_w1", "--n", "10", "--out", str(tmp_path / "new")])
    version = TARGETS.entry("donut").version
    known = load_floor("donut", version, "energy_w1", 1, 10, folder=tmp_path / "new")
    assert known is not None
    assert len(known.null) == REPEATS


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_shipped_floors_are_whole_and_belong_to_what_is_registered(file: Path) -> None:
    law = LAWS[file.name.removesuffix(".npz")]
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        arrays = dict(archive)
    assert int(arrays.pop("target_version")) == TARGETS.entry(law.name).version
    for key, null in arrays.items():
        metric = METRICS.get(key.split("@")[0])
        assert key.startswith(f"{metric.name}@{metric.version}/n=")
        assert metric.null is not None
        assert null.dtype == np.float32
        assert len(null) == n_repeats(metric.name)
        assert np.isfinite(null).all()
        assert (np.diff(null) >= 0).all()
        assert metric.null == "centred" or null[0] >= 0


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_exact_draws_are_at_the_shipped_floor(file: Path) -> None:
    law = LAWS[file.name.removesuffix(".npz")]
    source = TruthSource(targets.get(law.name, **law.parameters))
    try:
        draws, truth = source.independent_pair(2_000, derive_generator("exact draws", law.stem))
    except DataFileError as error:  # its truth holds the score, which needs the rows
        pytest.skip(str(error))
    for metric_name in ("sliced_w2", "moment_bias2", "energy_w1"):
        known = load_floor(law.stem, law.version, metric_name, METRICS.entry(metric_name).version, 2_000)
        if known is not None:
            try:
                value = METRICS.get(metric_name)(Draws(samples=draws), truth, seed=0)[metric_name]
            except DataFileError as error:
                pytest.skip(str(error))
            assert value < 2 * known.null[-1]  # twice what 1,000 exact samples reached
