"""Times of draws over batch sizes, with a clock that the test sets."""

import time

import pytest

from samplerbench.benchmarks import measure


class Clock:
    """Time goes on only where a draw says so: a fixed part per call and one per draw."""

    def __init__(self, per_call: float, per_draw: float, fails_at: int = 10**9) -> None:
        self.now, self.per_call, self.per_draw, self.fails_at = 0.0, per_call, per_draw, fails_at
        self.batches: list[int] = []

    def draw(self, n: int) -> None:
        if n >= self.fails_at:
            raise MemoryError
        self.batches.append(n)
        self.now += self.per_call + n * self.per_draw

    def process_time(self) -> float:
        return self.now


def curve(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    monkeypatch.setattr(measure.time, "process_time", clock.process_time)
    return measure.throughput_curve(clock.draw, "cpu")


def test_the_curve_ends_after_the_best_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 ms a call and 1 microsecond a draw: 1,001 microseconds for a draw alone, nearly 1 in large batches."""
    found = curve(Clock(1e-3, 1e-6), monkeypatch)
    batches, costs = zip(*found, strict=True)
    assert list(batches) == [4**k for k in range(len(batches))]
    assert costs == pytest.approx([1_000 / n + 1 for n in batches])
    # two batches in a row gained less than 10% on the best before them
    assert min(costs[-2:]) > 0.9 * min(costs[:-2])
    assert min(costs[-3:-1]) < 0.9 * min(costs[:-3])


def test_batches_stop_at_a_second_and_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = curve(Clock(1.0, 0.1), monkeypatch)
    assert slow == [(1, pytest.approx(1.1e6))]  # four draws would take longer than a second
    full = curve(Clock(1e-3, 1e-9, fails_at=64), monkeypatch)
    assert [batch for batch, _ in full] == [1, 4, 16]


def test_the_first_call_of_a_batch_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1e-3, 1e-6)

    def draw(n: int) -> None:
        clock.now += 0 if n in clock.batches else 1.0  # something is compiled
        clock.draw(n)

    monkeypatch.setattr(measure.time, "process_time", clock.process_time)
    assert max(cost for _, cost in measure.throughput_curve(draw, "cpu")) == pytest.approx(1_001)


def test_a_method_that_refuses_a_batch_ends_the_curve() -> None:
    def draw(n: int) -> None:
        raise ValueError(f"n_samples must be at least 2, got {n}")

    assert measure.throughput_curve(draw, "cpu") == []


def test_on_a_cpu_the_time_of_other_processes_does_not_count() -> None:
    result, seconds = measure.timed(lambda: time.sleep(0.3) or "done", "cpu")
    assert result == "done"
    assert seconds < 0.1


def test_on_a_cpu_work_counts() -> None:
    def work() -> None:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert 0.05 <= measure.timed(work, "cpu")[1] < 0.1
