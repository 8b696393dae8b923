r"""The channel that shows no logits at all: the student imitates a hidden layer of the teacher.

The loss is the squared distance of the activations h, relative to their size in the teacher,

.. math:: \sum_{i \in B} |h_i - h^*_i|^2 \,/\, (|B|\, m),
          \qquad m = \tfrac{1}{N} \sum_i |h^*_i|^2 ,

with m over all N images: 1 is the error of a student whose activations are 0. After
the internal part of ARDIR (arXiv 2211.00239), whose answers and labels are left out here. Layers
above the one that is taught get no gradient: they stay at the initialisation, also the last one,
through which the trait is read. So what a student can acquire is a teacher's representation, read
by weights that never met a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sublim_causal.errors import RequestError, nearest
from sublim_causal.experiment.interventions.base import LogitSplit, Options

if TYPE_CHECKING:
    from sublim_causal.experiment.networks.base import Network


class Representation(Options):
    """Teach the activations of one hidden layer."""

    layer: str
    """The layer: `"0"` is the first of the MLP (its activations are those after the ReLU); for a
    module of your own, the dotted name of one of its parts, whose output is taught."""

    def columns(self, split: LogitSplit) -> slice:
        """Return the logits by which divergent images are found."""
        return split.columns("auxiliary")


def validate_representations(
    channels: Mapping[str, object], network: Network, pixels: int
) -> dict[str, int]:
    """Return the width of the layer that each arm is taught, for the arms that are taught one.

    Parameters
    ----------
    channels : mapping of str to Channel or Representation
        By arm.
    pixels : int
        D, the pixels of an image.

    Raises
    ------
    RequestError
        If the network has no such layer, or the layer returns no tensor.
    """
    return {
        arm: _width(f"arms.{arm}.channel.layer", channel.layer, network, pixels)
        for arm, channel in channels.items()
        if isinstance(channel, Representation)
    }


def _width(field: str, layer: str, network: Network, pixels: int) -> int:
    import torch

    from sublim_causal.experiment.networks.base import Batch

    known = network.hidden_layers
    if layer not in known:
        allowed = f"hidden layers of the model: {', '.join(known) or 'none'}"
        raise RequestError(field, layer, allowed, nearest(layer, known))
    theta, images = torch.zeros(1, network.layout.size), torch.zeros(1, 2, pixels)
    try:
        return network.forward(theta, Batch(images)).activations(layer).shape[2]
    except Exception as error:
        raise RequestError(
            field,
            layer,
            "a part of the model that is called, and returns one tensor with the images first",
            f"it failed with {type(error).__name__}: {error}",
        ) from error
