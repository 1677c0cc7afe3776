"""A Stan model as a target: give this file as ``--plugin docs/examples/my_stan_target.py``."""

from pathlib import Path

from samplerbench.targets.stan import from_stan

from_stan(
    Path(__file__).with_name("normal.stan"),
    data={"n": 3, "y": [1.0, 2.0, 4.0]},
    scale=2.0,  # of the unconstrained law of (mu, log sigma)
    name="stan_normal",
)
