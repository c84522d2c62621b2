"""Batch normalisation over the batch of all processes together. Floor 4.

On CUDA it is torch's own `torch.nn.SyncBatchNorm`, which refuses tensors of the CPU. There the same figures come from sums over
all processes, which autograd takes on the way back too.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@final
class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance are those of the rows of all processes (Ioffe and Szegedy 2015, arXiv:1502.03167).

    It has the parameters, buffers and arguments of the layer it stands for, and gives what that gives for all rows at once, but
    for the order in which numbers are added. In eval mode it is that layer.

    Shape: input ``(batch, channels, ...)``, at least one row; the same for the output.
    """

    counted = True  # whether the rows of this process belong to the batch; see `count_rows`

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input."""
        if not self.training:
            found: Tensor = super().forward(input)
            return found
        self._check_input_dim(input)
        values = input if input.dtype in (torch.float32, torch.float64) else input.float()
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        share = 1.0 if self.counted else 0.0
        rows = values.new_tensor([share * input.numel() / input.shape[1]])
        sums = _over_all(torch.cat([values.sum(axes) * share, rows]))
        count = sums[-1].detach()
        if float(count) < 2:
            raise ValueError(f"expected more than 1 value per channel when training, got input size {tuple(input.shape)}")
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = _over_all((centred * centred).sum(axes) * share) / count
        if self.training and self.running_mean is not None and self.running_var is not None:
            self._learn(self.running_mean, self.running_var, mean.detach(), variance.detach() * (count / (count - 1)))
        output = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is not None:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _learn(self, running_mean: Tensor, running_var: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Move the running mean and variance, as torch.nn.functional.batch_norm does."""
        share = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1.0 / float(self.num_batches_tracked) if share is None else share
        running_mean.lerp_(mean.to(running_mean.dtype), share or 0.0)
        running_var.lerp_(variance.to(running_var.dtype), share or 0.0)


def synchronised(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose batch norm layers count the rows of all processes; parameters and buffers are the same objects.

    Args:
        model: Changed in place, but where it is such a layer itself.
        device: That it trains on.

    Example:
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> type(synchronised(network, torch.device("cpu"))[1]).__name__
        'SynchronisedBatchNorm'
    """
    if device.type == "cuda":
        changed: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return changed
    return _synchronised(model, {})


def _synchronised(model: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Return what stands in the place of a module; a layer that stands in several places is replaced by one in all of them."""
    if model not in done:
        done[model] = _synchronised_layer(model) if isinstance(model, KINDS) else model
        for name, child in list(model._modules.items()):
            if child is not None:
                setattr(model, name, _synchronised(child, done))
    return done[model]


def _synchronised_layer(layer: Any) -> SynchronisedBatchNorm:
    """Return a layer in the place of another."""
    made = SynchronisedBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    made._parameters, made._buffers = layer._parameters, layer._buffers
    made._non_persistent_buffers_set = layer._non_persistent_buffers_set
    made.training = layer.training
    return made


def batch_norms(model: nn.Module) -> list[str]:
    """Return the paths of the layers that normalise over a batch.

    Example:
        >>> batch_norms(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        ['1']
    """
    return [path for path, module in model.named_modules() if isinstance(module, _BatchNorm)]


def synchronises(model: nn.Module) -> bool:
    """Tell whether batch norm layers of a network count the rows of all processes."""
    return any(isinstance(module, SynchronisedBatchNorm | nn.SyncBatchNorm) for module in model.modules())


def count_rows(model: nn.Module, counted: bool) -> None:
    """Say whether the rows that this process reads next belong to the batch: one that has none reads a row that does not."""
    for module in model.modules():
        if isinstance(module, SynchronisedBatchNorm):
            module.counted = counted


def _over_all(value: Tensor) -> Tensor:
    """Return the sum over all processes; gradients are summed on the way back too."""
    found: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return found


@final
class _Sum(torch.autograd.Function):
    """The sum over all processes: each hands on what came, and gets back the sum of the gradients of all."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        """Return the sum."""
        return _summed(value)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient."""
        return _summed(gradients[0])


def _summed(value: Tensor) -> Tensor:
    import torch.distributed as dist

    found = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(found)
    return found
