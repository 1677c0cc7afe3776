"""Global generators: the same inside the block for the same generator, untouched after it, even after an error."""

import random

import numpy as np
import pytest
import torch

from samplerbench.samplers.isolation import isolated_rng
from samplerbench.targets import derive_generator


def draw() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def inside(seed: int) -> tuple[float, float, float]:
    with isolated_rng(derive_generator(seed)):
        return draw()


def seeded() -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)


def test_the_block_depends_on_the_generator_alone() -> None:
    first = inside(0)
    draw()
    assert inside(0) == first
    assert all(a != b for a, b in zip(inside(1), first, strict=True))


def fail_inside() -> None:
    with isolated_rng(derive_generator(0)):
        draw()
        raise ZeroDivisionError


def test_global_states_go_on_as_if_nothing_had_happened() -> None:
    seeded()
    expected = draw()
    seeded()
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert draw() == expected


def test_the_seed_is_given_to_libraries_that_take_one() -> None:
    with isolated_rng(derive_generator(0)) as seed, isolated_rng(derive_generator(1)) as other:
        assert 0 <= seed < 2**31
        assert seed != other


def test_devices_that_are_not_restored_are_not_reseeded(monkeypatch: pytest.MonkeyPatch) -> None:
    reseeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    inside(0)
    assert not reseeded
