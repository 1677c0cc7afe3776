import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from samplerbench.benchmarks.plan import RunSpec, Suite, make_plan
from samplerbench.benchmarks.store import Plan, Record, Store, StoreError
from samplerbench.targets import Draws, Estimate


@pytest.fixture
def spec(make_suite: Callable[..., Suite], plugin: Path) -> RunSpec:
    return make_plan(make_suite(), plugins=[plugin])[0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    with store.locked():
        pass
    return store


def draws(fill: float = 1.0) -> Draws:
    return Draws(
        samples=torch.full((3, 2), fill),
        log_weights=torch.zeros(3),
        chains=torch.ones(1, 3, 2),
        log_z=Estimate(1.5, std_error=0.1),
    )


def test_a_run_comes_back_as_it_was_stored(store: Store, spec: RunSpec) -> None:
    kept = Record(
        spec=spec,
        status="ok",
        counts={"fit": {"log_prob": 1, "score": 2, "hvp": 3}},
        seconds={"fit": 0.5},
        diagnostics={"trace": torch.tensor([1.0, 2.0])},
        log_z={"value": 1.5, "std_error": 0.1},
    )
    store.save(kept, draws())
    record = store.record(spec.run_id)
    assert record is not None
    assert record.draws_sha256 is not None
    assert record.diagnostics == {"trace": [1.0, 2.0]}
    assert record.arrays == {"samples": [3, 2], "log_weights": [3], "chains": [1, 3, 2]}
    assert dataclasses.replace(record, draws_sha256=None, arrays={}, diagnostics=kept.diagnostics) == kept
    back = store.draws(record)
    assert torch.equal(back.samples, draws().samples)
    assert back.chains is not None
    assert back.log_density is None
    assert back.log_z == Estimate(1.5, std_error=0.1)


def test_a_number_that_json_cannot_hold_becomes_null(store: Store, spec: RunSpec) -> None:
    store.save(Record(spec=spec, status="diverged", diagnostics={"loss": [1.0, float("nan")]}), None)
    record = store.record(spec.run_id)
    assert record is not None
    assert record.diagnostics == {"loss": [1.0, None]}


def test_a_final_run_wins_and_a_failed_one_is_replaced(store: Store, spec: RunSpec) -> None:
    store.save(Record(spec=spec, status="killed", reason="first"), None)
    assert not store.is_final(spec.run_id)
    store.save(Record(spec=spec, status="ok"), draws(1.0))
    assert store.is_final(spec.run_id)
    store.save(Record(spec=spec, status="ok"), draws(2.0))
    record = store.record(spec.run_id)
    assert record is not None
    assert store.draws(record).samples[0, 0] == 1.0
    assert [path.name for path in (store.path / "runs").iterdir()] == [spec.run_id]


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 99}', "[1]", '{"schema": 1, "status": "fine"}'])
def test_a_corrupt_record_is_an_error_that_names_it_and_is_run_again(store: Store, spec: RunSpec, damage: str) -> None:
    store.save(Record(spec=spec, status="ok"), draws())
    (store.path / "runs" / spec.run_id / "record.json").write_text(damage)
    with pytest.raises(StoreError, match=r"record\.json is corrupt"):
        store.record(spec.run_id)
    assert not store.is_final(spec.run_id)
    store.save(Record(spec=spec, status="ok"), draws(3.0))
    assert store.is_final(spec.run_id)


def test_corrupt_draws_are_an_error_and_are_run_again(store: Store, spec: RunSpec) -> None:
    store.save(Record(spec=spec, status="ok"), draws())
    record = store.record(spec.run_id)
    assert record is not None
    path = store.path / "runs" / spec.run_id / "draws.npz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=r"draws\.npz are corrupt"):
        store.draws(record)
    assert not store.is_final(spec.run_id)
    path.unlink()
    assert not store.is_final(spec.run_id)


def test_a_run_that_cannot_be_written_leaves_nothing_under_its_name(
    store: Store, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.save(Record(spec=spec, status="ok"), draws())
    assert list((store.path / "runs").iterdir()) == []


def test_left_overs_of_a_killed_writer_are_removed(store: Store) -> None:
    left_over = store.path / "runs" / ".0123-99"
    left_over.mkdir()
    (left_over / "draws.npz").write_bytes(b"half")
    with store.locked():
        assert not left_over.exists()


def test_a_store_in_use_refuses_a_second_run(store: Store) -> None:
    with store.locked(), pytest.raises(StoreError, match="in use"), Store(store.path).locked():
        pass


def test_a_store_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written.*--store"), Store(tmp_path / "file" / "store").locked():
        pass


def test_plans_of_one_suite_are_merged_and_runs_of_an_old_version_go(store: Store, spec: RunSpec) -> None:
    other = dataclasses.replace(spec, seed=1)
    newer = dataclasses.replace(spec, sampler_version=2)
    store.write_plan(Plan("s", "", [], [spec]), {spec.run_id})
    store.write_plan(Plan("s", "", [], [other]), {spec.run_id, other.run_id})
    assert {run.run_id for run in store.plan().runs} == {spec.run_id, other.run_id}
    store.write_plan(Plan("s", "", [], [other]), {newer.run_id, other.run_id})  # the old version's cell goes
    assert [run.run_id for run in store.plan().runs] == [other.run_id]
    with pytest.raises(StoreError, match="holds suite 's', not 't'"):
        store.write_plan(Plan("t", "", [], [spec]), set())


def test_a_directory_without_a_plan_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a store"):
        Store(tmp_path).plan()
    (tmp_path / "plan.json").write_text(json.dumps({"suite": "s"}))
    with pytest.raises(StoreError, match="cannot be read"):
        Store(tmp_path).plan()
