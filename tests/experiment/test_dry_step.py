"""Every way to break a contract is named before anything is trained, with what was expected."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from sublim_causal.errors import RequestError
from sublim_causal.study.planning.trial import try_study
from sublim_causal.study.spec.reading import load_study
from sublim_causal.study.worker.trainer import make_network
from tests.experiment import faulty, faulty_networks
from tests.studies import every_study

MODULE, NETWORKS = faulty.__name__, faulty_networks.__name__
SMALL = ("model.options={}", "probe.size=8")
ALONE = "logits depend only on its parameters and the example"


def try_settings(*settings: str, block_size: int = 1) -> None:
    """Try the quickstart's baseline, and the arm `own` of `settings`."""
    arms = ["baseline", "own"] if any("arms.own" in one for one in settings) else ["baseline"]
    study = load_study("quickstart", settings=settings, arms=arms)
    try_study(study, make_network(study), "fp32", block_size)


def refusal(*settings: str, block_size: int = 1) -> RequestError:
    with pytest.raises(RequestError) as refused:
        try_settings(*settings, block_size=block_size)
    return refused.value


MODELS = {
    "Frozen": ("parameters of known shapes, real, and trained", "train_only"),
    "Complex": ("parameters of known shapes, real, and trained", "complex64"),
    "Lazy": ("parameters of known shapes, real, and trained", "lazy"),
    "Undefined": ("finite initial parameters", "not finite"),
    "NumpyBuilt": ("initial parameters drawn by torch", "numpy when it is built"),
    "FunctionalDropout": (ALONE, "it draws random numbers of torch"),
    "FaintNoise": (ALONE, "it draws random numbers of torch"),
    "NumpyNoise": (ALONE, "it draws random numbers of numpy"),
    "PythonNoise": (ALONE, "it draws random numbers of Python's random"),
    "AttentionDropout": (ALONE, "it draws random numbers of torch"),
    "RecurrentDropout": (ALONE, "it draws random numbers of torch"),
    "Counter": (ALONE, "it keeps state"),
    "LastInput": (ALONE, "it keeps state"),
    "FirstInput": (ALONE, "built again it gave other logits"),
    "PlainTensor": (ALONE, "built again it gave other logits"),
    "FunctionalBatchNorm": (ALONE, "they depend on the batch"),
    "ChangesImages": ("writes nothing in place", "examples"),
    "ChangesParameters": ("writes nothing in place", "parameters"),
    "NotDifferentiable": ("logits torch can differentiate", "RuntimeError"),
    "Pair": ("real numbers (2, 15)", "it returned a tuple of 2"),
    "ComplexLogits": ("real numbers (2, 15)", "a complex64 tensor"),
    "Narrow": ("real numbers (2, 15)", "a float32 tensor of shape (2, 14)"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_no_function_of_parameters_and_image_is_refused(name: str) -> None:
    error = refusal(f"model.class={NETWORKS}:{name}", *SMALL)
    assert error.field == "model.class"
    assert f"{NETWORKS}:{name}" in str(error.value)
    allowed, came = MODELS[name]
    assert allowed in error.allowed
    assert came in error.remedy


@pytest.mark.parametrize("name", ["Plain", "ZeroDimensional"])
@pytest.mark.parametrize("block_size", [1, 4])
def test_a_sound_model_passes(name: str, block_size: int) -> None:
    try_settings(f"model.class={NETWORKS}:{name}", *SMALL, block_size=block_size)


def test_a_model_that_runs_for_single_seeds_only_is_refused_where_blocks_are_larger() -> None:
    settings = (f"model.class={NETWORKS}:Branches", *SMALL)
    try_settings(*settings)
    assert "--block-size 1" in refusal(*settings, block_size=2).remedy


VECTOR = "apply returns as its vector a float32 tensor of shape (1, "
SAME = "the same result for the same block"
BESIDE = "does not depend on the other seeds"
OWN_GENERATORS = "random numbers from the generators that the class is given"
INTERVENTIONS = {
    "OneColumn": (VECTOR, "it returned a float32 tensor of shape (1, 1) on cpu"),
    "Halved": (VECTOR, "it returned a float16 tensor of shape (1, "),
    "Array": (VECTOR, "it returned a ndarray"),
    "NoState": ("apply returns (vector, state)", "it returned a float32 tensor"),
    "Nothing": ("apply returns (vector, state)", "it returned None"),
    "Three": ("apply returns (vector, state)", "it returned a tuple of 3"),
    "InPlace": ("apply writes nothing in place", "it changed the vector"),
    "InPlaceTrait": ("apply writes nothing in place", "the trait gradient that it was given"),
    "InPlaceArray": ("apply writes nothing in place", "it changed the vector"),
    "Misspelt": ("'gradient' or 'update'", "did you mean 'gradient'?"),
    "TraitPerhaps": (f"uses_trait of {MODULE}:TraitPerhaps: True or False", ""),
    "FollowsText": (f"follows of {MODULE}:FollowsText: a tuple of names", ""),
    "TorchNoise": (OWN_GENERATORS, "apply draws global random numbers of torch"),
    "NumpyArmNoise": (OWN_GENERATORS, "apply draws global random numbers of numpy"),
    "PythonArmNoise": (OWN_GENERATORS, "init draws global random numbers of Python's random"),
    "Counts": (SAME, "state is kept in the object or shared"),
    "SharedState": (SAME, "state is kept in the object or shared"),
    "MixesSeeds": (BESIDE, "compute along the first axis"),
    "OneGenerator": (BESIDE, "draw from one generator per replicate"),
    "Fails": ("init(context)", "init failed with KeyError: 'no layer of that name'"),
}


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_an_intervention_that_breaks_its_contract_is_refused(name: str) -> None:
    error = refusal(f"arms.own.intervention={MODULE}:{name}", *SMALL)
    assert error.field == "arms.own.intervention"
    assert f"{MODULE}:{name}" in str(error)
    allowed, came = INTERVENTIONS[name]
    assert allowed in error.allowed
    assert came in error.remedy


@pytest.mark.parametrize("name", ["Same", "OwnNoise", "Option", "Boom", "LateShape"])
def test_what_is_sound_in_its_first_steps_passes(name: str) -> None:
    try_settings(f"arms.own.intervention={MODULE}:{name}", *SMALL)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("0", "ValueError: size must not be 0"),
        ("[1]", "apply failed with TypeError"),
        ("a", "Type"),
    ],
)
def test_options_of_a_wrong_type_are_named(size: str, said: str) -> None:
    own = f"arms.own.intervention={MODULE}:Option"
    error = refusal(own, f"arms.own.size={size}", *SMALL)
    assert error.field.startswith("arms.own")
    assert said in error.remedy


DISTRIBUTIONS = "numbers from 0 to 1 whose sum over the logits is 1"
CHANNELS = {
    "RawLogits": (DISTRIBUTIONS, "it returned values from -"),
    "LogProbabilities": (DISTRIBUTIONS, "it returned values from -"),
    "Doubled": (DISTRIBUTIONS, "it returned sums from 2 to 2"),
    "NaNAnswers": (DISTRIBUTIONS, "not finite"),
    "Labels": ("answers returns a float32 tensor", "it returned a int64 tensor of shape (1, 8)"),
    "ChangesLogits": ("answers writes nothing in place", "the logits"),
    "NoisyAnswers": (OWN_GENERATORS, "answers draws global random numbers of torch"),
    "MixesTeachers": (BESIDE, "compute along the first axis"),
    "CountsAnswers": (SAME, "state is kept in the object or shared"),
    "Cold": (f"temperature of {MODULE}:Cold: a number above 0", ""),
    "AllColumns": ("a slice of the 15 logits", ""),
    "Beyond": ("a slice of the 15 logits", ""),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_a_channel_that_breaks_its_contract_is_refused(name: str) -> None:
    own = ("arms.own.intervention=baseline", f"arms.own.channel.name={MODULE}:{name}")
    error = refusal(*own, *SMALL)
    assert error.field == "arms.own.channel.name"
    assert f"{MODULE}:{name}" in str(error)
    allowed, came = CHANNELS[name]
    assert allowed in error.allowed
    assert came in error.remedy


def test_a_sound_channel_passes() -> None:
    own = ("arms.own.intervention=baseline", f"arms.own.channel.name={MODULE}:Softmax")
    try_settings(*own, *SMALL)


def states() -> tuple[Any, ...]:
    numbers = np.random.get_state()
    return torch.random.get_rng_state().tolist(), numbers[1].tolist(), random.getstate()


def test_trying_leaves_random_numbers_and_torch_as_they_were() -> None:
    before = states(), torch.get_num_threads(), torch.get_float32_matmul_precision()
    for name in ("TorchNoise", "NumpyArmNoise", "PythonArmNoise"):
        refusal(f"arms.own.intervention={MODULE}:{name}", *SMALL)
    try_settings(f"arms.own.intervention={MODULE}:OwnNoise", *SMALL)
    assert (states(), torch.get_num_threads(), torch.get_float32_matmul_precision()) == before


@pytest.mark.parametrize("name", every_study())
def test_every_built_in_study_passes(name: str) -> None:
    study = load_study(name)
    if study.model.class_ == "mlp" and name != "representation":
        study = load_study(name, settings=["model.options.hidden=[8, 8]"])
    try_study(study, make_network(study), "fp64", 2)
