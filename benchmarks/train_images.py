"""Training of the laws and classifiers of images that are shipped with the package.

``python -m samplerbench.benchmarks.train_images mfa|classifier|energy|figure digits|mnist`` writes
``<law>.safetensors`` (the numbers) and ``<law>.json`` (settings, seed, hash of the data, versions, measured values)
into the package's data, and the figure into ``docs/figures``. Whatever runs may be killed at any point and goes on
where it stopped, to the same result. The figure comes last: it shows and judges what the others made.

Images are scaled to [-1, 1]; Gaussian noise is added to them, because without it they would have no density. The same
80% of the images, by seed 0, train everything; the others measure.
"""

import argparse
import dataclasses
import hashlib
import importlib.resources
import json
import sys
from collections.abc import Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..targets.datasets import DATASETS, load
from ..targets.factor_analysers import mixture_of
from ..targets.image_classifier import ImageClassifier
from ..targets.image_energy import BOUNDS
from ..targets.image_networks import PIXELS, FixedLayers, forward, layers_of
from ..targets.meter import derive_generator
from .measure import environment
from .store import write_json
from .train_classifier import ClassifierSettings, begin_classifier, classifier_step
from .train_energy import EnergySettings, Tilted, averages, begin_energy, draw_base, energy_step
from .train_figure import LongRunSettings, draw_figure, judge, long_run
from .train_loop import State, train, write_tensors
from .train_mfa import MFASettings, begin_mfa, em_step, modes_of, noisy_copies

TRAIN_SHARE = 0.8
NOISE_SD = {"digits": 0.15, "mnist": 0.2}  # pixels are in [-1, 1]

MFA = {
    "digits": MFASettings(n_components=20, n_factors=8, noise_sd=NOISE_SD["digits"], n_copies=5),
    "mnist": MFASettings(n_components=40, n_factors=10, noise_sd=NOISE_SD["mnist"], n_copies=1, n_draws=50_000),
}
GAUSSIAN = {
    "digits": MFASettings(n_components=1, n_factors=30, noise_sd=NOISE_SD["digits"], n_copies=1),
    "mnist": MFASettings(n_components=1, n_factors=50, noise_sd=NOISE_SD["mnist"], n_copies=1),
}
ENERGY = {
    "digits": EnergySettings(base=GAUSSIAN["digits"], widths=(256, 256), n_steps=4_000, n_chains=256),
    "mnist": EnergySettings(base=GAUSSIAN["mnist"], widths=(512, 256), n_steps=10_000, n_chains=128),
}
CLASSIFIER = {
    "digits": ClassifierSettings(widths=(128, 32), noise_sd=0.3, max_shift=1, n_steps=4_000),
    "mnist": ClassifierSettings(widths=(256, 64), noise_sd=0.4, max_shift=2, n_steps=6_000),
}
LONG_RUN = LongRunSettings()


@dataclasses.dataclass(frozen=True)
class Images:
    """A set of images in [-1, 1], split: ``train`` and ``held_out`` are images ``(n, dim)``, float64, and labels."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


def split_images(name: str) -> Images:
    """The images of a data set, split by seed 0."""
    pixels, labels = load(name)
    order = derive_generator(0, "split", name)
    rows = torch.randperm(len(labels), generator=order)
    n_train = round(TRAIN_SHARE * len(labels))
    train_rows, held_out_rows = rows[:n_train], rows[n_train:]
    x = 2 * pixels - 1
    return Images((x[train_rows], labels[train_rows]), (x[held_out_rows], labels[held_out_rows]))


def noisy_splits(name: str, noise_sd: float, seed: int) -> dict[str, Tensor]:
    """The images of both parts ``(n, dim)``, with noise: ``train`` and ``held_out``."""
    images = split_images(name)
    return {
        what: x + noise_sd * torch.randn(x.shape, generator=derive_generator(seed, what, name), dtype=x.dtype)
        for what, (x, _) in (("train", images.train), ("held_out", images.held_out))
    }


def fit_mixture(name: str, what: str, settings: MFASettings, *, seed: int, folder: Path) -> State:
    """Parameters of the mixture fitted to the images in training, with their noise, as float32."""
    x = noisy_copies(split_images(name).train[0], settings, derive_generator(seed, "noise", name))
    fitted = train(
        lambda generator: begin_mfa(x, settings, generator),
        lambda state, i, generator: em_step(state, x, settings),
        settings.n_iterations,
        key=(what, name, settings, seed),
        checkpoint=folder / f"{what}_{name}.partial",
    )
    return {key: value.to(torch.float32) for key, value in fitted.items()}


def train_mfa(name: str, settings: MFASettings, *, seed: int, folder: Path) -> None:
    """Fit the mixture and write ``mfa_<name>``."""
    law = fit_mixture(name, "mfa", settings, seed=seed, folder=folder)
    mixture = mixture_of(law)
    labels, masses, std_error = modes_of(mixture, settings.n_draws, derive_generator(seed, "modes", name))
    measured = {
        **{
            f"log_likelihood_{what}": mixture.log_prob(x).mean().item()
            for what, x in noisy_splits(name, settings.noise_sd, seed).items()
        },
        "smallest_weight": mixture.weights.min().item(),
        "n_modes": len(masses),
        "largest_std_error_of_a_mass": std_error,
    }
    _write(f"mfa_{name}", {**law, "mode_labels": labels, "mode_masses": masses}, name, settings, seed, measured, folder)


def train_classifier(name: str, settings: ClassifierSettings, *, seed: int, folder: Path) -> None:
    """Train the classifier and write ``classifier_<name>``."""
    images = split_images(name)
    step = partial(classifier_step, images=images.train[0].to(torch.float32), labels=images.train[1], settings=settings)
    state = train(
        lambda generator: begin_classifier(PIXELS[name], settings, generator),
        step,
        settings.n_steps,
        key=("classifier", name, settings, seed),
        checkpoint=folder / f"classifier_{name}.partial",
    )
    weights = _weights(state)
    x, labels = images.held_out[0].to(torch.float32), images.held_out[1]
    noise = torch.randn(x.shape, generator=derive_generator(seed, "held out", name))
    measured = {
        f"accuracy_held_out{what}": (forward(layers_of(weights), x + sd * noise).argmax(-1) == labels)
        .to(torch.float64)
        .mean()
        .item()
        for what, sd in (("", 0.0), ("_with_noise", NOISE_SD[name]))
    }
    _write(f"classifier_{name}", weights, name, settings, seed, measured, folder)


def train_energy(name: str, settings: EnergySettings, *, seed: int, folder: Path) -> None:
    """Fit the base, train the energy over it and write ``ebm_<name>``."""
    law = fit_mixture(name, "base", settings.base, seed=seed, folder=folder)
    base, bound = mixture_of(law), BOUNDS[name]
    images = split_images(name).train[0].to(torch.float32)
    state = train(
        lambda generator: begin_energy(base, settings, generator),
        partial(energy_step, images=images, base=base, bound=bound, settings=settings),
        settings.n_steps,
        key=("energy", name, settings, seed),
        checkpoint=folder / f"ebm_{name}.partial",
    )
    weights = averages(state)
    points = {**noisy_splits(name, settings.base.noise_sd, seed), "chains": state["chains"]}
    measured: dict[str, float] = {"leapfrog_step": state["leapfrog_step"].item()}
    for what, x in points.items():
        energy = -Tilted(base, layers_of(weights), bound).log_prob(x.to(torch.float32))
        measured[f"mean_energy_{what}"], measured[f"sd_energy_{what}"] = energy.mean().item(), energy.std().item()
    tensors = {**{f"base.{key}": value for key, value in law.items()}, **weights}
    _write(f"ebm_{name}", tensors, name, settings, seed, measured, folder)


def make_figure(name: str, settings: LongRunSettings, *, seed: int, folder: Path, figure: Path) -> None:
    """Run long chains of the energy in ``folder``, judge and show them, and add what was measured to its JSON."""
    classifier = ImageClassifier(FixedLayers(layers_of(_read(f"classifier_{name}", folder))))
    ebm = _read(f"ebm_{name}", folder)
    law = Tilted(mixture_of(ebm, "base."), layers_of(ebm), BOUNDS[name])
    n_kept = 10 * settings.n_chains
    chains, run = long_run(
        law,
        draw_base(law.base, settings.n_chains, derive_generator(seed, "figure base", name)),
        settings,
        key=("figure", name, settings, seed, _hash(f"ebm_{name}", folder)),
        checkpoint=folder / f"figure_{name}.partial",
    )
    splits = noisy_splits(name, NOISE_SD[name], seed)
    generator = derive_generator(seed, "figure", name)
    samples = {
        "real, held out": splits["held_out"][torch.randperm(len(splits["held_out"]), generator=generator)],
        f"mfa_{name}": draw_base(mixture_of(_read(f"mfa_{name}", folder)), n_kept, generator),
        "Gaussian": draw_base(law.base, n_kept, generator),
        **{f"ebm_{name} from {start}": kept.flatten(0, 1) for start, kept in chains.items()},
    }
    samples = {what: x.to(torch.float32) for what, x in samples.items()}
    judged = {what: judge(x, splits["train"].to(torch.float32), classifier) for what, x in samples.items()}
    for what, x in samples.items():
        energy = -law.log_prob(x)
        judged[what] |= {"mean_energy": energy.mean().item(), "sd_energy": energy.std().item()}
    path = folder / f"ebm_{name}.json"
    certificate = json.loads(path.read_text())
    certificate["long_run"] = {"settings": dataclasses.asdict(settings), **run, "judged": judged}
    write_json(path, certificate)

    shown = {what: x[-100:] for what, x in samples.items() if what != "Gaussian"}
    title = (
        f"{NOISE_SD[name]:g} noise; chains: HMC at temperature 1, {settings.n_transitions:,} transitions of 1 to "
        f"{settings.max_leapfrog} leapfrog steps of {run['step']:.3f}, acceptance {run['acceptance']:.2f}, no restarts "
        f"(in training a chain lived {1 / ENERGY[name].restart:,.0f} on average)"
    )
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw_figure({what: (x, classifier.predict(x)) for what, x in shown.items()}, title, figure)


def _read(law: str, folder: Path) -> State:
    from safetensors.torch import load_file

    tensors: State = load_file(folder / f"{law}.safetensors")
    return tensors


def _hash(law: str, folder: Path) -> str:
    return hashlib.sha256((folder / f"{law}.safetensors").read_bytes()).hexdigest()


def _weights(state: State) -> dict[str, Tensor]:
    """The weights of a network, without Adam's averages."""
    return {name: value for name, value in state.items() if "." not in name}


def _write(
    law: str, tensors: State, images: str, settings: Any, seed: int, measured: dict[str, Any], folder: Path
) -> None:
    write_tensors(folder / f"{law}.safetensors", tensors)
    certificate = {
        "what": law,
        "sha256": _hash(law, folder),
        "measured": measured,
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        "data": {"name": images, "sha256": DATASETS[images].sha256, "share_for_training": TRAIN_SHARE},
        "environment": {**environment("cpu"), "safetensors": metadata.version("safetensors")},
    }
    write_json(folder / f"{law}.json", certificate)
    print(law, measured, file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.train_images", description="Train laws of images.")
    parser.add_argument("what", choices=["mfa", "classifier", "energy", "figure"])
    parser.add_argument("images", choices=list(PIXELS))
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    shipped = Path(str(importlib.resources.files("samplerbench.targets.data")))
    parser.add_argument("--out", type=Path, default=shipped, help="folder of the numbers (default: the package's own)")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"), help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    where = {"seed": options.seed, "folder": options.out}
    if options.what == "mfa":
        train_mfa(options.images, MFA[options.images], **where)
    elif options.what == "classifier":
        train_classifier(options.images, CLASSIFIER[options.images], **where)
    elif options.what == "energy":
        train_energy(options.images, ENERGY[options.images], **where)
    else:
        make_figure(options.images, LONG_RUN, **where, figure=options.figures / f"images_{options.images}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
