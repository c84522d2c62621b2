"""What becomes of settings where several processes train: what they cannot have, devices, threads, last batches. Floor 12."""

from __future__ import annotations

import torch
from torch import nn

from netwright.beside import cores
from netwright.config.schema import RunConfig
from netwright.distributed.world import World
from netwright.engine.choose import choose_device, choose_threads
from netwright.engine.trial import normalises_batches
from netwright.errors import ConfigError
from netwright.model.synchronised import synchronises
from netwright.numerals import counted
from netwright.pipeline.custom import Custom
from netwright.pipeline.network import Network
from netwright.pipeline.rates import why_not_replayed
from netwright.pipeline.resolving import leaves_one
from netwright.pipeline.transferring import freezing_in

SEVERAL = "{} processes share each step, which are not replayed"


class PartsError(ConfigError):
    """A batch that processes cannot share.

    Args:
        what: Came, and what was expected.
        advice: For a run that has not begun.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(f"{what}; {advice}" if advice else what)  # one string, as it may be pickled
        self.what = what


def refuse_alone(config: RunConfig, custom: Custom, world: World) -> None:
    """Refuse settings that only one process can have.

    Raises:
        ConfigError: One of them; what to do is told.
    """
    if world.alone:
        return
    training, size = config.training, world.size
    in_graphs = _in_graphs(config)
    if training.engine in ("captured", "compiled") and not in_graphs:
        raise ConfigError(
            f"training.engine: {training.engine} came under {size} processes; expected auto or eager: steps that processes share "
            "run as they are written, or captured on GPUs; leave it out"
        )
    if in_graphs and training.strategy == "fsdp":
        raise ConfigError(
            'training.engine: captured came with training.strategy = "fsdp"; expected ddp: a CUDA graph holds steps of whole '
            "networks; leave one of them out"
        )
    if custom.step is not None:
        raise ConfigError(
            f"step: an own training step came under {size} processes; expected one process, as it makes the update itself; "
            "start it without a launcher"
        )
    if training.strategy == "fsdp" or training.sync_batchnorm:
        what = 'training.strategy = "fsdp"' if training.strategy == "fsdp" else "training.sync_batchnorm = true"
        _refuse_parts(config, what, world)


def _in_graphs(config: RunConfig) -> bool:
    """Tell whether steps are captured on GPUs."""
    training = config.training
    return training.engine == "captured" and training.device != "cpu" and torch.cuda.is_available()


def _refuse_parts(config: RunConfig, what: str, world: World) -> None:
    """Refuse rows in parts where processes meet within a pass, as each may have another number of parts."""
    if config.training.micro_batch is not None:
        raise ConfigError(
            f"training.micro_batch: {config.training.micro_batch} came with {what} under {world.size} processes, which meet within "
            "each pass; expected one of them; leave micro_batch out and start more processes, each takes a smaller part"
        )


def refuse_undivided(config: RunConfig, world: World) -> None:
    """Refuse a batch, written or chosen for the rows, of which processes cannot have equal parts.

    Raises:
        PartsError: What to write is told.
    """
    size, rows = world.size, config.data.batch_size
    if rows % size:
        near = max(size, round(rows / size) * size)
        raise PartsError(
            f"data.batch_size: {rows} rows came for {size} processes; expected a multiple of {size}, as each process takes an "
            "equal part",
            f"set data.batch_size = {near}",
        )


def refuse_halving(auto_micro_batch: bool, world: World) -> None:
    """Refuse to halve the rows that go forward at a time where several processes train.

    Raises:
        ConfigError: It was asked for.
    """
    if auto_micro_batch and not world.alone:
        raise ConfigError(
            f"--auto-micro-batch: it came under {world.size} processes; expected one; start more processes, each takes a smaller "
            "part of the batch, or set a smaller data.batch_size"
        )


def device_of(config: RunConfig, world: World) -> torch.device:
    """Return the device of this process; each of several has a GPU of its own, where there are any.

    Raises:
        ConfigError: The device is not there, or there are fewer than processes.
    """
    name = config.training.device
    if world.alone or name == "cpu":
        return choose_device(name)
    if name is not None and name.startswith("cuda:"):
        raise ConfigError(
            f"training.device: {name} came for {world.size} processes; expected cuda, of which each takes one; leave the number out"
        )
    device, count = choose_device(name), torch.cuda.device_count()
    if device.type == "cuda" and world.local_size > count and not world.own_gpu:
        raise ConfigError(
            f"training.device: {counted(count, 'GPU')} for {world.local_size} processes of this machine; expected one for each; "
            f"start {count} (torchrun --nproc-per-node {count}), or set training.device = cpu"
        )
    return device


def refuse_unlike(config: RunConfig, world: World) -> None:
    """Refuse a GPU for each process where only some of them see one; every process must ask.

    Raises:
        ConfigError: The ranks are told.
    """
    if world.alone:
        return
    wants = config.training.device in (None, "auto", "cuda")
    told = world.gathered([wants, torch.cuda.is_available()])
    takes = [sees for wants, sees in told if wants]
    if any(takes) and not all(takes):
        without = [str(rank) for rank, (_, sees) in enumerate(told) if not sees]
        ranks = f"rank {without[0]} sees" if len(without) == 1 else f"ranks {', '.join(without)} see"
        raise ConfigError(
            f"training.device: {config.training.device or 'auto'} came; of {world.size} processes {ranks} no GPU, the others do; "
            "expected one for each; see what nvidia-smi and CUDA_VISIBLE_DEVICES say there, or set training.device = cpu"
        )


def for_processes(
    config: RunConfig, network: nn.Module, work: tuple[int, int], rows: int, device: torch.device, world: World
) -> RunConfig:
    """Return settings with the threads of each process, and with no part of a batch that batch norm could not train on.

    Args:
        config: The settings.
        network: The network.
        work: Multiply-adds of a row, forward, and those of them in recurrent layers.
        rows: That train.
        device: To train on.
        world: The processes; alone nothing is changed.

    Raises:
        PartsError: Batches leave a process one row, which batch norm cannot train on.
        ConfigError: They do so alone, or the network has layers in which processes meet, and rows go forward in parts.
    """
    if world.alone:
        _refuse_parts_of_one(config, network, rows, 1)
        return config
    if synchronises(network):
        _refuse_parts(config, "torch.nn.SyncBatchNorm in the network", world)
    size, batch_size, asked = world.size, config.data.batch_size, config.data.last_batch
    written = {}
    least, needs = _least(config, network, device, size)
    left = rows % batch_size
    if min(batch_size, rows) < least:
        raise PartsError(
            f"data.batch_size: {min(batch_size, rows)} rows came for {size} processes; BatchNorm needs {needs} in each",
            f"make it larger, start fewer{', or set training.sync_batchnorm = true' if least > size else ''}",
        )
    if 0 < left < least:
        if asked == "keep":
            raise PartsError(
                f"data.last_batch: keep came; {rows} rows in batches of {batch_size} leave {left} for {size} processes, and "
                f"BatchNorm needs {needs} in each",
                "leave it out (they are dropped), change data.batch_size"
                f"{' or set training.sync_batchnorm = true' if least > size else ' or start fewer'}",
            )
        written["last_batch"] = "drop"
    config = config.model_copy(update={"data": config.data.model_copy(update=written)})
    _refuse_parts_of_one(config, network, rows, size)
    shared = (world.cores or cores()) // world.local_size  # a launcher may have bound each process to cores of its own
    threads = config.training.threads or min(choose_threads(work[0], batch_size // size, work[1]), shared)
    return config.model_copy(update={"training": config.training.model_copy(update={"threads": max(1, threads)})})


def _refuse_parts_of_one(config: RunConfig, network: nn.Module, rows: int, size: int) -> None:
    """Refuse rows at a time that leave one row of a process's part of some batches, which batch norm cannot train on."""
    micro, freezing = config.training.micro_batch, freezing_in(config, network)
    if micro is None or not normalises_batches(network, () if freezing is None else freezing.always_resting):
        return
    whole = min(config.data.batch_size, rows)
    dropped = config.data.last_batch == "drop" and rows > whole
    batches = (whole, 0 if dropped else rows % whole)
    parts = {part for batch in batches for part in (batch // size, -(-batch // size))}  # parts are as even as can be
    if any(leaves_one(part, micro) for part in parts):
        if size == 1:
            raise ConfigError(
                f"training.micro_batch: {micro} came for batches of {whole} rows of {rows}; a part of one row is left, which "
                "BatchNorm cannot train on; expected two or more in each; change one of them"
            )
        told = " and ".join(str(part) for part in sorted(parts) if part)
        raise PartsError(
            f"training.micro_batch: {micro} came for parts of {told} rows in {size} processes; one row is left of a part, which "
            "BatchNorm cannot train on",
            "change one of them",
        )


def _least(config: RunConfig, network: nn.Module, device: torch.device, size: int) -> tuple[int, str]:
    """Return how many rows the batches of some processes need for batch norm, and what each of them needs, in words."""
    if not normalises_batches(network):
        return 0, ""
    if not config.training.sync_batchnorm:
        return 2 * size, "two rows or more"
    # torch.nn.SyncBatchNorm counts the row that a process without rows reads in their place
    return (size, "one row or more") if device.type == "cuda" else (0, "")


def why_not_repeated(
    config: RunConfig, custom: Custom, network: Network, trial: torch.optim.Optimizer | None, world: World
) -> str | None:
    """Return why steps are not recorded or captured, as far as rates and processes tell; None where they may be.

    Args:
        config: The settings.
        custom: What came from Python.
        network: The network and its loss.
        trial: An optimizer of a copy, where its rates were asked for.
        world: The processes. Only by name are theirs captured, on GPUs.
    """
    if not world.alone:
        if config.training.engine != "captured":
            return SEVERAL.format(world.size)
        from netwright.engine.shared_graphs import why_not_in_graphs  # torch's wrappings come with it

        together = config.training.sync_batchnorm or synchronises(network.module)
        why = why_not_in_graphs(network.module, network.task.loss_function, together, bool(config.data.augmentation))
        if why is not None:
            return why
    return why_not_replayed(config, custom, trial)


def shared_settings(config: RunConfig, world: World, before: int = 1) -> RunConfig:
    """Return the settings of a run that goes on, with steps that its processes can share.

    Args:
        config: The settings.
        world: The processes.
        before: How many processes trained it: where several captured their steps, they do so again if they can.
    """
    if world.alone or config.training.engine == "eager" or (before > 1 and _in_graphs(config)):
        return config
    training = config.training.model_copy(update={"engine": "eager", "lanes": 1})
    return config.model_copy(update={"training": training})
