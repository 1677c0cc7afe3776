"""What every registered target must keep, whatever its law."""

import math
from importlib import resources

import pytest
import torch
from torch import Tensor

from samplerbench.benchmarks import check_knowledge, check_target
from samplerbench.benchmarks.contract import Check
from samplerbench.benchmarks.target_subject import TargetSubject
from samplerbench.targets.base import TARGETS, HasModes, HasView, Target, one_digit
from samplerbench.targets.datasets import DataFileError

SUBJECTS: dict[str, TargetSubject] = {}
ALWAYS = (
    check_target.description,
    check_target.shapes_and_dtypes,
    check_target.rows_alone,
    check_target.devices,
    check_target.float32_agrees,
    check_target.double_backward,
    check_target.starting_points,
)


def having(*parts: str) -> pytest.MarkDecorator:
    """Targets that know one of ``parts``; asked of the class, because some parts are costly to compute."""
    names = [name for name in TARGETS.names() if any(hasattr(type(TARGETS.get(name)), part) for part in parts)]
    return pytest.mark.parametrize("name", names)


def averaged(name: str) -> bool:
    """Whether there are draws, with tails light enough for an average; a view says that they are not."""
    law = type(TARGETS.get(name))
    shipped = (resources.files("samplerbench.targets.data") / f"{name}.npz").is_file()
    return (hasattr(law, "sample") or shipped) and not hasattr(law, "view")


AVERAGED = [name for name in TARGETS.names() if averaged(name)]


@pytest.fixture(params=TARGETS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def subject(name: str) -> TargetSubject:
    """The target at its own points, which are made once per target."""
    if name not in SUBJECTS:
        made = TargetSubject.registered(name)
        try:
            assert len(made.x)
        except DataFileError as error:
            pytest.skip(f"needs a data file: {error}")
        SUBJECTS[name] = made
    return SUBJECTS[name]


@pytest.fixture
def target(subject: TargetSubject) -> Target:
    return subject.target


@pytest.fixture
def draws(subject: TargetSubject) -> Tensor:
    """10,000 exact draws, or reference draws, or public starting points."""
    return subject.x


@pytest.mark.parametrize("check", ALWAYS, ids=lambda check: check.__name__)
def test_density_keeps_its_contract(subject: TargetSubject, check: Check[TargetSubject]) -> None:
    check(subject)  # raises what is broken


@having("score")
def test_own_score_equals_autograd(subject: TargetSubject) -> None:
    check_target.score_is_gradient(subject)


@having("sample")
def test_exact_draws_depend_on_the_seed_alone(subject: TargetSubject) -> None:
    check_knowledge.sample(subject)


@pytest.mark.parametrize("name", AVERAGED)
def test_scale_is_the_rounded_root_mean_square(target: Target, draws: Tensor) -> None:
    squares = draws.square().mean(-1)
    low, high = (squares.mean() + sign * 5 * squares.std() / math.sqrt(len(squares)) for sign in (-1, 1))
    assert one_digit(low.sqrt().item()) <= target.scale <= one_digit(high.sqrt().item())


@having("moments")
def test_moments_have_their_shapes(subject: TargetSubject) -> None:
    """What they state is checked by the certificates."""
    check_knowledge.moments(subject)


@having("wells")
def test_every_point_is_in_one_well_of_each_coordinate(subject: TargetSubject) -> None:
    check_knowledge.wells(subject)


@having("features")
def test_features_have_their_shapes(subject: TargetSubject) -> None:
    check_knowledge.features(subject)


@having("class_probabilities")
def test_class_probabilities_are_probabilities(subject: TargetSubject) -> None:
    check_knowledge.classes(subject)


@having("marginals")
def test_distribution_functions_of_marginals_rise(subject: TargetSubject) -> None:
    check_knowledge.marginals(subject)


@having("scramble")
def test_symmetries_leave_density_and_invariants_unchanged(subject: TargetSubject) -> None:
    check_knowledge.symmetry(subject)


@having("minibatch_score")
def test_minibatch_scores_of_all_rows_add_up_to_the_score(subject: TargetSubject) -> None:
    check_knowledge.minibatches(subject)


@having("view")
def test_view_is_increasing_in_each_coordinate(subject: TargetSubject, target: Target, draws: Tensor) -> None:
    check_knowledge.view(subject)
    assert isinstance(target, HasView)
    x = draws[:1_000].sort(0).values
    assert (target.view(x).diff(dim=0) >= 0).all()


@having("log_z")
def test_log_z_is_an_estimate(subject: TargetSubject) -> None:
    try:
        check_knowledge.log_normaliser(subject)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@having("reference")
def test_reference_draws_are_finite(subject: TargetSubject) -> None:
    try:
        check_knowledge.reference(subject)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@having("modes")
def test_modes_are_assigned_alike_in_both_dtypes_and_nothing_far_away(subject: TargetSubject, target: Target) -> None:
    check_knowledge.modes(subject)
    assert isinstance(target, HasModes)
    modes = target.modes
    assert 0 < 1 - modes.masses.sum() < 0.01
    assert modes.assign(torch.full((1, target.dim), 1e6)).tolist() == [-1]


@having("log_odds")
def test_predictions_are_finite_log_odds(subject: TargetSubject) -> None:
    check_knowledge.predictions(subject)


def test_unknown_parameters_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*unknown parameter 'no_such_parameter'"):
        TARGETS.get(name, no_such_parameter=1)
