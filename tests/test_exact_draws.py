"""The sweep over exact draws: its rules, and that it goes on where it stopped."""

from pathlib import Path

import pandas as pd
import pytest

from samplerbench.benchmarks import exact_draws
from samplerbench.benchmarks.exact_draws import COLUMNS, broken, judged_exact, main, summary
from samplerbench.targets.base import TARGETS, HasSample

ROOT = Path(__file__).parent.parent


def cells(*rows: tuple[str, float, float]) -> pd.DataFrame:
    """Rows of metric, ratio, p."""
    table = [
        ("ring8@1", metric, 2_000, ratio, 1.0, ratio, 0.0, p, 0.001, p > 0.05, 10_000, 0) for metric, ratio, p in rows
    ]
    return pd.DataFrame(table, columns=COLUMNS)


def test_each_rule_breaks_by_itself() -> None:
    good = [("sliced_w2", 1.9, 0.01), ("mmd2", -2.9, 0.9), ("energy_w1", 2.5, 0.02), ("ksd", 2.9, 0.3)]
    assert broken(cells(*good)).empty
    bad = [("sliced_w2", 2.1, 0.3), ("w2", 0.4, 0.3), ("mmd2", 3.1, 0.3), ("ksd", -3.1, 0.3), ("mode_tv", 1.0, 0.001)]
    found = broken(cells(*good, *bad))
    assert set(found["metric"]) == {metric for metric, _, _ in bad[:-1]} | {"mode_tv"}
    assert len(found) == len(bad)
    assert found[found["metric"] == "mode_tv"]["rule"].item() == "p at least 0.01 / 9 cells"
    assert summary(cells(*good, *bad)).count("BROKEN: ring8@1") == len(bad)
    assert "BROKEN" not in summary(cells(*good))


def test_it_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "exact.csv"
    shipped = exact_draws.floor_at
    monkeypatch.setattr(exact_draws, "floor_at", lambda name, *of: None if name == "himmelblau" else shipped(name, *of))
    assert main(["mog2", "--n", "2000", "--out", str(out)]) == 0
    first = pd.read_csv(out)
    assert list(first.columns) == COLUMNS
    assert len(first) == len(judged_exact("mog2", 2_000)) >= 7
    first["ratio"] = 1.5  # no value that would come again
    first.to_csv(out, index=False)
    capsys.readouterr()
    assert main(["mog2", "donut", "himmelblau", "--n", "2000", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "mog2:" not in said
    assert "donut: " in said
    assert "no floors: himmelblau" in said
    both = pd.read_csv(out)
    assert list(both["target"].unique()) == ["donut@1", "mog2@1"]
    assert set(both[both["target"] == "mog2@1"]["ratio"]) == {1.5}
    assert main(["mog2", "--n", "2000", "--seed", "1", "--out", str(out)]) == 0  # other draws: cells of their own
    assert set(pd.read_csv(out)["seed"]) == {0, 1}


def test_a_broken_rule_gives_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "exact.csv"
    cells(("sliced_w2", 2.1, 0.3)).to_csv(out, index=False)
    assert main(["ring8", "--out", str(out)]) == 1
    assert "BROKEN: ring8@1 sliced_w2" in capsys.readouterr().out


def test_a_target_without_exact_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="must have exact draws, breast_cancer_train has none"):
        judged_exact("breast_cancer_train", 2_000)


def test_the_shipped_table_keeps_the_rules() -> None:
    shipped = pd.read_csv(ROOT / "results" / "judge" / "exact_draws.csv")
    own = [n for n in TARGETS.names() if TARGETS.entry(n).build.__module__.startswith("samplerbench.targets.")]
    assert set(shipped["target"]) == {TARGETS.versioned(n) for n in own if isinstance(TARGETS.get(n), HasSample)}
    assert broken(shipped).empty
