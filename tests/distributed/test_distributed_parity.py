"""Several processes give the training of one: every loss, every weight, within the rounding of sums in another order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import parity
import pytest
import ranks
import safetensors.torch
import torch

Trained = Callable[[int, str], Path]
WITHIN = {torch.float32: 1e-5, torch.float64: 1e-10}
LONG = [pytest.param(*one, marks=pytest.mark.faults) for one in ((4, "ddp"), (2, "fsdp"), (4, "fsdp"))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return where a number of ranks wrote what they trained together in a strategy; each is started once."""
    done: dict[tuple[int, str], Path] = {}

    def train(size: int, strategy: str) -> Path:
        if (size, strategy) not in done:
            folder = tmp_path_factory.mktemp(f"{strategy}{size}")
            for ended in ranks.Ranks(folder / "log", [(parity.train_cases, (folder, strategy))] * size).wait(280.0):
                assert ended.code == 0, ended.stderr
            done[size, strategy] = folder
        return done[size, strategy]

    return train


@pytest.mark.parametrize(("size", "strategy"), [(2, "ddp"), *LONG])
@pytest.mark.parametrize(("case", "dtype"), parity.CASES)
def test_losses_and_weights_after_200_steps_are_those_of_one_process(
    trained: Trained, case: str, dtype: torch.dtype, size: int, strategy: str
) -> None:
    alone = parity.trained(case, dtype)
    found = safetensors.torch.load_file(trained(size, strategy) / f"{case}-{dtype}.safetensors")
    assert len(alone["losses"]) == parity.STEPS
    assert set(found) == set(alone)
    for name, value in alone.items():
        far = (found[name] - value).abs().max() / value.abs().max()
        assert far <= WITHIN[dtype], f"{name}: {far:.2e}"


def test_the_mean_loss_of_a_step_counts_rows_by_the_weight_of_their_class(trained: Trained) -> None:
    found = safetensors.torch.load_file(trained(2, "ddp") / "mlp-torch.float64.safetensors")["losses"]
    alone = parity.trained("mlp", torch.float64)["losses"]
    assert torch.equal(found[:, 1], alone[:, 1])
    assert len(alone[:, 1].unique()) > 5  # the weights differ from batch to batch
