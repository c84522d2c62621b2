"""Settings that were written and do nothing in this run, told before it trains. Floor 12."""

from __future__ import annotations

from torch import nn

from netwright.config.calls import OBJECT
from netwright.config.schema import EvaluationConfig
from netwright.model.synchronised import batch_norms
from netwright.pipeline.bench import Bench

WHOLE = ("numpy.", "torch.Tensor", "pandas.", "polars.", "pyarrow.", "builtins.")  # objects that no worker has to read
PLANES = (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)


def idle(bench: Bench) -> list[str]:
    """Return the settings of a run that change nothing of it, each with the reason."""
    data, training, module = bench.config.data, bench.config.training, bench.network.module
    evaluation, kind, usual = bench.config.evaluation, bench.network.task.kind, EvaluationConfig()
    alone, source = bench.world.alone, data.source or ""
    in_memory = not source.startswith(OBJECT) or source.removeprefix(OBJECT).startswith(WHOLE)
    found = {
        f"data.encoding = {data.encoding}": data.encoding != "utf-8"
        and source.startswith(OBJECT)
        and "rows came from Python, and no file of text is read",
        f"data.workers = {data.workers}": data.workers > 0
        and bench.augmentation is None
        and in_memory
        and "rows lie ready in memory; workers augment images and read the items of a Dataset",
        "training.memory_format = channels_last": training.memory_format == "channels_last"
        and not any(isinstance(part, PLANES) for part in module.modules())
        and "no convolution of planes is in the network",
        "training.precision = tf32": training.precision == "tf32"
        and bench.device.type != "cuda"
        and f"products on {bench.device.type} are those of float32",
        f"training.strategy = {training.strategy}": training.strategy != "auto" and alone and "one process trains",
        f"evaluation.threshold = {evaluation.threshold}": evaluation.threshold != usual.threshold
        and kind != "binary"
        and f"a threshold decides between two classes, and the task is {kind}",
        f"evaluation.coverage = {evaluation.coverage:g}": evaluation.coverage != usual.coverage
        and kind != "regression"
        and f"intervals hold numbers, and the task is {kind}",
        "training.sync_batchnorm": training.sync_batchnorm
        and ((alone and "one process trains") or (not batch_norms(module) and "no batch norm is in the network")),
    }
    return [f"{setting} does nothing here: {why}" for setting, why in found.items() if why]
