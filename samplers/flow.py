"""A normalising flow trained by reverse KL divergence."""

from dataclasses import dataclass, field

from torch import Generator

from ..targets.checks import require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .density_model import FittedDensity, reverse_kl
from .descent import Descent, descend
from .spline_flow import Splines


@register_sampler("flow", version=1)
@dataclass(frozen=True, kw_only=True)
class Flow:
    """A spline flow q of least KL(q, p), by path gradients; draws are weighted by p / q.

    It is mode-seeking: a mode that the first draws do not reach stays lost, and then so is its share of log Z, which
    the weights of the draws cannot show. Needs zuko (``pip install 'samplerbench[flows]'``).

    Attributes:
        splines: the flow.
        descent: its training, which costs n_steps * batch_size scores.
        clip_rows: gradients of single points are shortened to this multiple of their batch's median.
        weighted: whether a draw pays a log_prob for its importance weight; log Z comes with it.

    References: D. Rezende and S. Mohamed, ICML 2015, arXiv 1505.05770; L. Vaitl et al., Gradients should stay on Path,
    arXiv 2207.08219, for the gradient.
    """

    splines: Splines = field(default_factory=Splines)
    descent: Descent = field(default_factory=Descent)
    clip_rows: float = 20.0
    weighted: bool = True

    def __post_init__(self) -> None:
        require_positive(clip_rows=self.clip_rows)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; where the budget ends, the flow of the last step.

        Raises:
            ModuleNotFoundError: if zuko is not installed.
        """
        model, n = self.splines.build(meter, generator), self.descent.batch_size
        fit = descend(
            list(model.parameters()),
            lambda _: reverse_kl(model, n, self.clip_rows, meter, generator),
            self.descent,
        )
        return FittedDensity(model, meter, self.weighted, fit, loss="negative_elbo")
