"""The weights on disk: what comes back, what is refused, and that a failed write destroys nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import make_fingerprint, refusal
from sifa.fingerprint.fingerprint import read_fingerprint
from sifa.networks.weights import load_weights
from sifa.training.model_files import save_model, save_state
from torch import nn

FINGERPRINT = make_fingerprint()


def network(seed: int, width: int = 4) -> nn.Module:
    """Returns a small network with parameters and with running statistics."""
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))
    layers(torch.rand(2, 1, 8, 8))
    return layers


def same(first: nn.Module, second: nn.Module) -> bool:
    """Returns whether two networks have the same weights."""
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(name == other and torch.equal(value, twin) for (name, value), (other, twin) in pairs)


def fail_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `torch.save` write a part and fail, as on a full disk."""

    def save(state: Any, path: Path) -> None:
        path.write_bytes(b"half of the wei")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", save)


def test_what_was_saved_comes_back_bit_by_bit_in_evaluation_mode(tmp_path: Path) -> None:
    trained = network(0).train()
    save_model(trained, FINGERPRINT, tmp_path / "run")

    loaded = load_weights(network(1), tmp_path / "run" / "model.pt")

    assert same(loaded, trained)
    assert trained.training
    assert not loaded.training
    image = torch.rand(1, 1, 8, 8)
    assert torch.equal(loaded(image), trained.eval()(image))


def test_the_pair_and_nothing_else_is_written(tmp_path: Path) -> None:
    save_model(network(0), FINGERPRINT, tmp_path / "run")

    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["fingerprint.json", "model.pt"]
    assert read_fingerprint(tmp_path / "run" / "fingerprint.json") == FINGERPRINT


def test_the_file_is_a_plain_state_dict_that_loads_without_running_code(tmp_path: Path) -> None:
    save_model(network(0), FINGERPRINT, tmp_path)

    state = torch.load(tmp_path / "model.pt", weights_only=True)

    assert set(state) == set(network(0).state_dict())
    for value in state.values():
        assert type(value) is torch.Tensor
        assert value.device.type == "cpu"
        assert not value.requires_grad


def test_saving_again_replaces_the_weights(tmp_path: Path) -> None:
    save_model(network(0), FINGERPRINT, tmp_path)
    save_model(network(1), FINGERPRINT, tmp_path)

    assert same(load_weights(network(2), tmp_path / "model.pt"), network(1))


def test_a_failed_write_leaves_the_old_weights_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(network(0), FINGERPRINT, tmp_path)

    with monkeypatch.context() as patch:
        fail_to_save(patch)
        with pytest.raises(OSError, match="no space"):
            save_model(network(1), make_fingerprint(name="another"), tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["fingerprint.json", "model.pt"]
    assert same(load_weights(network(2), tmp_path / "model.pt"), network(0))
    assert read_fingerprint(tmp_path / "fingerprint.json") == FINGERPRINT


def test_a_failed_first_write_leaves_no_file_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_save(monkeypatch)

    with pytest.raises(OSError, match="no space"):
        save_state(network(0), tmp_path / "generators" / "target_generator.pt")

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_an_error_of_the_system_whatever_torch_calls_it(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of a process are set with it")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # bytes of a file
    try:
        with pytest.raises(OSError):  # noqa: PT011  # its words are torch's
            save_state(nn.Linear(100, 100), tmp_path / "model.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_missing_weights_are_named(tmp_path: Path) -> None:
    assert str(tmp_path / "model.pt") in refusal(lambda: load_weights(network(0), tmp_path / "model.pt"))


def test_a_folder_in_place_of_weights_is_named(tmp_path: Path) -> None:
    assert str(tmp_path) in refusal(lambda: load_weights(network(0), tmp_path))


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_truncated_weights_are_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.pt"
    save_model(network(0), FINGERPRINT, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    assert str(path) in refusal(lambda: load_weights(network(0), path))


@pytest.mark.parametrize(
    "written",
    [
        b"<html>404 Not Found</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"\x89PNG\r\n\x1a\n",
        b'{"format": 1}',
        bytes(1000),
        b"PK\x03\x04 no real archive",
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(written)

    assert str(path) in refusal(lambda: load_weights(network(0), path))


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "model.pt", tmp_path / "trace"

    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trace,))

    torch.save({"0.weight": Malice()}, path)

    assert str(path) in refusal(lambda: load_weights(network(0), path))
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"network": {}},
        {"0.weight": torch.zeros(4, 1, 3, 3)},
        {**network(0, width=8).state_dict()},
        {**network(0).state_dict(), "extra": torch.zeros(1)},
        dict.fromkeys(network(0).state_dict(), 3),
        [torch.zeros(1)],
        torch.zeros(3),
        None,
    ],
    ids=["wrapped", "a part", "another width", "more", "numbers", "a list", "a tensor", "None"],
)
def test_weights_of_another_network_are_named(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)

    message = refusal(lambda: load_weights(network(0), path))

    assert str(path) in message
    assert "fingerprint.json" in message
