"""Data sets: division, and clear errors for what is missing, damaged or too small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sublim_causal.errors import DataError, RequestError
from sublim_causal.experiment.config import DataConfig
from sublim_causal.experiment.data.sources import SOURCES, data_directory, division, load_images


def test_digits_are_divided_without_overlap() -> None:
    images = load_images(DataConfig(name="digits"), Path("unused"))
    parts = [images.train, images.held_out, images.test]
    assert [len(labels) for _, labels in parts] == [1200, 300, 297]
    assert all(pixels.shape[1:] == (1, 8, 8) for pixels, _ in parts)
    assert images.train[0].max() == images.white == 16
    from sklearn.datasets import load_digits

    everything = np.concatenate([pixels for pixels, _ in parts]).reshape(1797, -1)
    originals = load_digits().data
    order_a, order_b = (np.lexsort(x.T) for x in (everything, originals))
    assert np.array_equal(everything[order_a], originals[order_b])


def test_the_division_is_always_the_same() -> None:
    first, second = (load_images(DataConfig(name="digits"), Path("unused")) for _ in range(2))
    assert np.array_equal(first.train[0], second.train[0])


def test_too_many_images_are_refused() -> None:
    with pytest.raises(RequestError, match="at most 1500") as refused:
        division(DataConfig(name="digits", train=1400, held_out=200))
    assert refused.value.field == "data.train"


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "digits"])
def test_a_missing_data_set_names_the_ways_out(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        load_images(DataConfig(name=name), tmp_path)
    for way in ("--data-dir", "SUBLIM_DATA", "--download", "quickstart"):
        assert way in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage" * 50, bytes([0, 0, 8, 3, 0, 0, 0, 1]) * 9, bytes([0, 0, 8, 200]) * 9],
)
def test_a_damaged_data_set_is_reported(content: bytes, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for what in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{what}-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        load_images(DataConfig(name="mnist"), tmp_path)


def test_the_data_directory_follows_option_then_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SUBLIM_DATA", "/somewhere")
    assert data_directory(None) == Path("/somewhere")
    assert data_directory(Path("here")) == Path("here")
    monkeypatch.delenv("SUBLIM_DATA")
    assert data_directory(None) == Path("data")


def test_real_mnist(mnist: Path) -> None:
    images = load_images(DataConfig(name="mnist"), mnist)
    assert images.train[0].shape == (50_000, 1, 28, 28)
    assert images.held_out[0].shape == (10_000, 1, 28, 28)
    assert np.bincount(images.test[1]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip
