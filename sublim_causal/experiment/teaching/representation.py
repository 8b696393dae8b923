r"""The channel without logits: the student imitates a hidden layer of the teacher.

The loss is the squared distance of the activations h, relative to their size in the teacher,

.. math:: \sum_{i \in B} |h_i - h^*_i|^2 \,/\, (|B|\, m),
          \qquad m = \tfrac{1}{N} \sum_i |h^*_i|^2 ,

with m over all N examples: 1 is the error of a student whose activations are 0. After the internal
part of ARDIR (arXiv 2211.00239), whose answers and labels are left out here. Layers above the one
that is taught get no gradient: they stay at the initialisation, also the last one, through which
the trait is read. So a student can acquire the teacher's representation only, read by weights that
have seen no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.imports import Options
from sublim_causal.experiment.logits import LogitSplit

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sublim_causal.experiment.networks.base import Network
    from sublim_causal.experiment.teaching.targets import ActivationTargets


class Representation(Options):
    """Teach the activations of one hidden layer."""

    layer: str
    """The layer: `"0"` is the first of the MLP (its activations are those after the ReLU); for a
    module of your own, the dotted name of one of its parts, whose output is taught."""

    def columns(self, split: LogitSplit) -> slice:
        """Return the columns of the taught logits, in which teachers are compared."""
        return split.taught

    def source(self, split: LogitSplit) -> str:
        """Return the layer."""
        return self.layer

    def targets(
        self,
        taught: Tensor,
        weight: Tensor | None,
        split: LogitSplit,
        generators: Sequence[torch.Generator],
    ) -> ActivationTargets:
        """Return the activations, with m; where all of them are 0, m is 1."""
        from sublim_causal.experiment.teaching.targets import ActivationTargets

        size = taught.square().sum(dim=2).mean(dim=1)
        return ActivationTargets(self.layer, taught, size.where(size > 0, 1), weight)


def layer_widths(
    sources: Mapping[str, slice | str], network: Network, features: int
) -> dict[str, int]:
    """Return the width of the hidden layers that channels teach, for those that teach one.

    Parameters
    ----------
    sources : mapping of str to slice or str
        What each channel teaches, as `Channel.source` returns it, by the field of its table.
    features : int
        D, the length of an example.

    Raises
    ------
    RequestError
        If the network has no such layer, or the layer returns no tensor.
    """
    return {
        field: _width(f"{field}.layer", source, network, features)
        for field, source in sources.items()
        if isinstance(source, str)
    }


def _width(field: str, layer: str, network: Network, features: int) -> int:
    import torch

    from sublim_causal.experiment.networks.base import Batch

    known = network.hidden_layers
    if layer not in known:
        allowed = f"hidden layers of the model: {', '.join(known) or 'none'}"
        raise RequestError(field, layer, allowed, nearest(layer, known))
    theta, examples = torch.zeros(1, network.layout.size), torch.zeros(1, 2, features)
    try:
        return network.forward(theta, Batch(examples)).activations(layer).shape[2]
    except Exception as error:
        raise RequestError(
            field,
            layer,
            "a part of the model that is called, and returns one tensor with the batch axis first",
            f"it failed with {type(error).__name__}: {error}",
        ) from error
