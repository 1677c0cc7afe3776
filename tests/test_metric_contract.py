"""What every registered metric must keep: the checks of ``samplerbench check``."""

import pytest

from samplerbench.benchmarks.check_metric import CHECKS, MetricSubject, another_process
from samplerbench.benchmarks.contract import Check
from samplerbench.metrics.base import METRICS


def test_the_metrics_of_the_first_suite_are_registered() -> None:
    expected = "sliced_w2 w2 mmd2 energy_w1 ksd ksd_paper mode_tv modes_found mode_recall moment_bias2 accuracy nll"
    assert set(METRICS.names()) >= {*expected.split(), "rhat", "ess_bulk"}


# a process for each metric is slow; test_check has some
HERE = [check for check in CHECKS if check is not another_process]


@pytest.mark.parametrize("check", HERE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", METRICS.names())
def test_metric_keeps_its_contract(name: str, check: Check[MetricSubject]) -> None:
    check(MetricSubject.registered(name))  # raises what is broken
