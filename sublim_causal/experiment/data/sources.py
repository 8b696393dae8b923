"""Data sets of images: loaded and divided once, and kept as tensors on the training device."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sublim_causal.errors import DataError, RequestError
from sublim_causal.experiment.config import DataConfig, Experiment
from sublim_causal.experiment.data.streams import stream_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class RawImages:
    """A data set as it is stored.

    Attributes
    ----------
    train_images, test_images : ndarray of shape (N, channels, height, width)
        Pixels in [0, white].
    train_labels, test_labels : int64 ndarray of shape (N,)
    white : float
        The largest pixel value.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    white: float


@dataclass(frozen=True)
class DataSource:
    """A data set that a study file can name.

    Attributes
    ----------
    load : callable
        ``load(data_dir, download) -> RawImages``.
    images : int
        Training images in it.
    held_out : int
        Default number of training images kept from the teacher.
    test : int
        Test images in it.
    shape : tuple of int
        ``(channels, height, width)``.
    """

    load: Callable[[Path, bool], RawImages]
    images: int
    held_out: int
    test: int
    shape: tuple[int, int, int]
    classes: int = 10


@dataclass(frozen=True)
class ImageData:
    """The divided data set: uint8 arrays, small enough to send to worker processes.

    `others` are the data sets that students see and the teacher does not, by name.
    """

    train: tuple[NDArray[np.uint8], NDArray[np.int64]]
    held_out: tuple[NDArray[np.uint8], NDArray[np.int64]]
    test: tuple[NDArray[np.uint8], NDArray[np.int64]]
    white: float
    others: Mapping[str, OtherImages] = field(default_factory=dict)


@dataclass(frozen=True)
class OtherImages:
    """Training images ``(N, channels, height, width)`` of another data set."""

    images: NDArray[np.uint8]
    white: float


@dataclass(frozen=True)
class ImageTensors:
    """The divided data set on the training device.

    Attributes
    ----------
    train_x, held_out_x, test_x : Tensor of shape (N, D)
        Flattened images in [-1, 1].
    train_y, held_out_y, test_y : int64 Tensor of shape (N,)
    shape : tuple of int
        ``(channels, height, width)``.
    others : mapping of str to Tensor of shape (N, D)
        Images of other data sets, by name.
    """

    train_x: Tensor
    train_y: Tensor
    held_out_x: Tensor
    held_out_y: Tensor
    test_x: Tensor
    test_y: Tensor
    shape: tuple[int, int, int]
    others: Mapping[str, Tensor]


def _digits(data_dir: Path, download: bool) -> RawImages:
    # Importing scikit-learn takes half as long as torch.
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    table = np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    order = np.random.default_rng(stream_seed("digits", -1, "test")).permutation(len(table))
    images = table[order, :-1].reshape(-1, 1, 8, 8).astype(np.uint8)
    labels = table[order, -1].astype(np.int64)
    return RawImages(images[:1500], labels[:1500], images[1500:], labels[1500:], 16.0)


def _of_mnist_format(class_name: str) -> Callable[[Path, bool], RawImages]:
    def load(data_dir: Path, download: bool) -> RawImages:
        folder = data_dir / class_name / "raw"
        files = [
            folder / f"{part}-{kind}-ubyte"
            for part in ("train", "t10k")
            for kind in ("images-idx3", "labels-idx1")
        ]
        if download and not all(map(Path.exists, files)):
            from torchvision import datasets  # importing it takes as long as torch

            getattr(datasets, class_name)(str(data_dir), download=True)
        train_x, train_y, test_x, test_y = map(_read_idx, files)
        return RawImages(
            train_x[:, None],
            train_y.astype(np.int64),
            test_x[:, None],
            test_y.astype(np.int64),
            255.0,
        )

    return load


def _read_idx(file: Path) -> NDArray[np.uint8]:
    """Read a file in the IDX format of MNIST: type and number of axes, their lengths, the values.

    Raises
    ------
    ValueError
        If it is of another format, or not whole.
    """
    content = np.fromfile(file, np.uint8)
    if content[:3].tolist() != [0, 0, 8]:
        raise ValueError(f"{file.name} does not hold bytes in the IDX format")
    start = 4 + 4 * int(content[3])
    return content[start:].reshape(content[4:start].view(">u4"))


def _cifar10(data_dir: Path, download: bool) -> RawImages:
    from torchvision.datasets import CIFAR10

    parts = (CIFAR10(str(data_dir), train=train, download=download) for train in (True, False))
    (train_x, train_y), (test_x, test_y) = (
        (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64))
        for part in parts
    )
    return RawImages(train_x, train_y, test_x, test_y, 255.0)


SOURCES: dict[str, DataSource] = {
    "digits": DataSource(_digits, 1500, 300, 297, (1, 8, 8)),
    "mnist": DataSource(_of_mnist_format("MNIST"), 60_000, 10_000, 10_000, (1, 28, 28)),
    "fashion_mnist": DataSource(
        _of_mnist_format("FashionMNIST"), 60_000, 10_000, 10_000, (1, 28, 28)
    ),
    "kmnist": DataSource(_of_mnist_format("KMNIST"), 60_000, 10_000, 10_000, (1, 28, 28)),
    "cifar10": DataSource(_cifar10, 50_000, 10_000, 10_000, (3, 32, 32)),
}


@dataclass(frozen=True)
class Division:
    """How many training images go where."""

    train: int
    held_out: int


def division(config: DataConfig) -> Division:
    """Return the sizes that `config` asks for, defaults filled in.

    Raises
    ------
    RequestError
        If the data set has too few images.
    """
    source = SOURCES[config.name]
    held_out = config.held_out if config.held_out is not None else source.held_out
    train = config.train if config.train is not None else max(source.images - held_out, 1)
    if train + held_out > source.images:
        raise RequestError(
            "data.train" if config.train else "data.held_out",
            train if config.train else held_out,
            f"train + held_out at most {source.images}, the training images of {config.name}",
            f"now {train} + {held_out}",
        )
    return Division(train, held_out)


def validate_data(experiment: Experiment) -> None:
    """Refuse sizes and inputs that the data sets cannot give, before anything is loaded.

    Raises
    ------
    RequestError
    """
    held_out = division(experiment.data).held_out
    if experiment.probe.size > held_out:
        raise RequestError(
            "probe.size",
            experiment.probe.size,
            f"at most the {held_out} held-out images (data.held_out)",
            "lower probe.size or raise data.held_out",
        )
    shape = SOURCES[experiment.data.name].shape
    for arm, config in experiment.arms.items():
        name = experiment.inputs_of(arm)
        if name in SOURCES and SOURCES[name].shape != shape:
            fitting = [other for other, source in SOURCES.items() if source.shape == shape]
            raise RequestError(
                "distillation.inputs" if config.inputs is None else f"arms.{arm}.inputs",
                name,
                f"images of shape {shape}, those of {experiment.data.name}: {', '.join(fitting)}",
            )


def data_directory(option: Path | None) -> Path:
    """Return the directory to look in: the option, else ``SUBLIM_DATA``, else ``./data``."""
    return option or Path(os.environ.get("SUBLIM_DATA") or "data")


def load_images(
    config: DataConfig, data_dir: Path, *, others: Sequence[str] = (), download: bool = False
) -> ImageData:
    """Load and divide a data set; the division depends on the data set's name only.

    Parameters
    ----------
    others : sequence of str
        Further data sets whose training images are loaded.

    Raises
    ------
    DataError
        If it is missing, damaged, or cannot be downloaded; the message names the ways out.
    RequestError
        If `config` asks for more images than there are.
    """
    source, sizes = SOURCES[config.name], division(config)
    raw = _load(config.name, source, data_dir, download)
    order = np.random.default_rng(stream_seed(config.name, -1, "division")).permutation(
        source.images
    )
    held_out, train = order[: sizes.held_out], order[sizes.held_out :][: sizes.train]
    return ImageData(
        (raw.train_images[train], raw.train_labels[train]),
        (raw.train_images[held_out], raw.train_labels[held_out]),
        (raw.test_images, raw.test_labels),
        raw.white,
        {name: _other(name, data_dir, download) for name in others},
    )


def _other(name: str, data_dir: Path, download: bool) -> OtherImages:
    raw = _load(name, SOURCES[name], data_dir, download)
    return OtherImages(raw.train_images, raw.white)


def _load(name: str, source: DataSource, data_dir: Path, download: bool) -> RawImages:
    try:
        raw = source.load(data_dir, download)
    except Exception as error:
        missing = isinstance(error, FileNotFoundError) or "not found" in str(error)
        if missing and not download:
            raise DataError(
                f"data set {name!r} is not in {data_dir.resolve()}\n"
                "remedy: --data-dir DIR (or the environment variable SUBLIM_DATA) names a "
                "directory in torchvision's layout that has it; --download fetches it; "
                "the study 'quickstart' needs no data"
            ) from error
        if download and not isinstance(error, (ValueError, AssertionError)):
            raise DataError(
                f"data set {name!r} could not be downloaded to {data_dir.resolve()}: {error}\n"
                "remedy: --data-dir DIR with a copy in torchvision's layout, or the study "
                "'quickstart', which needs no data"
            ) from error
        raise _damaged(name, data_dir, f"{type(error).__name__}: {error}") from error
    _validate_raw(name, source, data_dir, raw)
    return raw


def _validate_raw(name: str, source: DataSource, data_dir: Path, raw: RawImages) -> None:
    """Refuse files that are not the data set they are named after."""
    found = (raw.train_images.shape, raw.test_images.shape)
    wanted = ((source.images, *source.shape), (source.test, *source.shape))
    if found != wanted:
        raise _damaged(name, data_dir, f"images of shape {found}, expected {wanted}")
    for labels, count in ((raw.train_labels, source.images), (raw.test_labels, source.test)):
        if len(labels) != count or labels.min() < 0 or labels.max() >= source.classes:
            raise _damaged(name, data_dir, f"labels are not {count} numbers from 0 to 9")


def _damaged(name: str, data_dir: Path, what: str) -> DataError:
    return DataError(
        f"data set {name!r} in {data_dir.resolve()} is damaged: {what}\n"
        "remedy: delete its files there and fetch them again with --download"
    )


def to_tensors(images: ImageData, device: torch.device, dtype: torch.dtype) -> ImageTensors:
    """Scale pixels to [-1, 1], flatten, and move everything to `device`."""
    import torch

    def scaled(pixels: NDArray[np.uint8], white: float) -> Tensor:
        return torch.from_numpy(pixels).to(device).flatten(1).to(dtype).div_(white / 2).sub_(1)

    def tensors(part: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        return scaled(part[0], images.white), torch.from_numpy(part[1]).to(device)

    return ImageTensors(
        *tensors(images.train),
        *tensors(images.held_out),
        *tensors(images.test),
        images.train[0].shape[1:],
        {name: scaled(other.images, other.white) for name, other in images.others.items()},
    )
