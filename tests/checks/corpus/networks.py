"""Own modules with one mistake each, as people write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SoftmaxInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.out(torch.relu(self.hidden(x))), dim=1)


class LogSoftmaxInForward(SoftmaxInForward):
    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.out(F.relu(self.hidden(x))), dim=-1)


class SigmoidInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.hidden(x))).sigmoid()


class ReluAtTheEnd(nn.Module):
    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 16), nn.Linear(16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))
        return F.relu(self.out(x))


class NoActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 32), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = self.two(x)
        return self.three(x)


class UnusedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.one(x))
        return self.out(x)


class ForgottenLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.blocks[0](x)))


class DetachedPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.one(x))
        h = h.detach()
        return self.out(h)


class DataAttribute(DetachedPath):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.one(x))
        return self.out(h.data)


class ThroughNumpy(DetachedPath):
    def forward(self, x: Tensor) -> Tensor:
        h = np.tanh(self.one(x).detach().numpy())
        return self.out(torch.from_numpy(h))


class ThroughLists(DetachedPath):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.one(x))
        return self.out(torch.tensor(h.tolist()))


class NoGradInside(DetachedPath):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = torch.relu(self.one(x))
        return self.out(h)


class NoGradForward(DetachedPath):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.one(x)))


class RoundedPath(DetachedPath):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.round(torch.relu(self.one(x))))


class ArgmaxPath(DetachedPath):
    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x).argmax(dim=1)
        return self.out(F.one_hot(h, 16).float())


class FrozenBody(DetachedPath):
    def __init__(self) -> None:
        super().__init__()
        for weight in self.one.parameters():
            weight.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.one(x)))


class LayersInList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(6, 16), nn.Linear(16, 16)]
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.out(x)


class LayersInDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = {"body": nn.Linear(6, 16), "head": nn.Linear(16, 16)}
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.parts["head"](torch.relu(self.parts["body"](x)))))


class LayersAppended(nn.Module):
    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.hidden = []
        for _ in range(depth):
            self.hidden.append(nn.Linear(6, 6))
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.out(x)


class ParametersInList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [nn.Parameter(torch.ones(6)) for _ in range(2)]
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for scale in self.scales:
            x = torch.relu(x * scale)
        return self.out(x)


class PlainTrainedTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.ones(6, requires_grad=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x * self.scale)


class DeadBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        nn.init.constant_(self.two.bias, -100.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.two(F.relu(self.one(x)))))


class DeepSigmoids(nn.Module):
    def __init__(self, depth: int = 14) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.Sigmoid()) for _ in range(depth)))
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(x))


class LargeWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(32 if place else 6, 32), nn.ReLU()) for place in range(8)))
        self.out = nn.Linear(32, 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(x))


class LargeHead(nn.Module):
    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 64), nn.Linear(64, outputs)
        nn.init.normal_(self.out.weight, std=5.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.one(x)))


class LargeBias(LargeHead):
    def __init__(self) -> None:
        super().__init__(outputs=1)
        nn.init.constant_(self.out.bias, 500.0)


class AllZeros(LargeHead):
    def __init__(self) -> None:
        super().__init__()
        for weight in self.parameters():
            nn.init.zeros_(weight)


class AllEqual(LargeHead):
    def __init__(self) -> None:
        super().__init__()
        for module in (self.one, self.out):
            nn.init.constant_(module.weight, 0.1)
            nn.init.constant_(module.bias, 0.0)


class TimeFirstLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(3, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.out(states[:, -1])


class TimeFirstAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32)
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.encoder(self.first(x)).mean(dim=1))


class SoftmaxOverRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.one, self.out = nn.Linear(6, 6), nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.softmax(self.gate(x), dim=0)
        return self.out(torch.relu(self.one(x)))


class MeanOfBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - x.mean()) / x.std()
        return self.out(torch.relu(self.one(x)))


class CutAnew(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(12, 16), nn.Linear(16 * 3, 2)

    def forward(self, x: Tensor) -> Tensor:  # (N, 12, 3)
        x = x.reshape(3, -1, 12).transpose(0, 1)  # meant: x.transpose(1, 2)
        return self.out(torch.relu(self.one(x)).flatten(1))


class OwnStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.one(self.norm(x))))


class DropoutAlways(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.one(x)), p=0.3)
        return self.out(x)


class DropoutReversed(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.dropout(F.relu(self.one(x)), 0.3, training=not self.training))


class NoiseAlways(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.one(x + 0.1 * torch.randn_like(x))))


class ScaledInTraining(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        if self.training:
            x = x * 2
        return self.out(x)


class EvalInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.drop, self.out = nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.eval()
        return self.out(self.drop(F.relu(self.one(x))))


class InputLost(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        x = x * 0 + 1
        return self.out(F.relu(self.one(x)))


class SoftmaxOfOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.out(torch.relu(self.one(x))), dim=1)


class SqueezedRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(3, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        _, (state, _) = self.lstm(x)
        return self.out(state.squeeze())


class AddsInPlace(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        x += 1.0
        return self.out(F.relu(self.one(x)))


class AssignsInput(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        x[x < 0] = 0
        return self.out(F.relu(self.one(x)))


class InplaceFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ReLU(inplace=True)
        self.one, self.out = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.one(self.first(x))))


class LogarithmOfInput(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.one(torch.log(x))))


class DividedByZero(DropoutAlways):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        return self.out(x / x.min(dim=1, keepdim=True).values)


class LayerCalledOnTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = nn.ReLU(x)
        return self.out(x)


class SoftmaxCalledOnTensor(LayerCalledOnTensor):
    def forward(self, x: Tensor) -> Tensor:
        return nn.Softmax(self.out(torch.relu(self.one(x))))


class LinearInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(nn.Linear(6, 16)(x))
        return self.out(x)


class HelperMakesLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 3)

    def lift(self, x: Tensor) -> Tensor:
        layer = nn.Linear(6, 6)
        return torch.relu(layer(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lift(x))


class DropoutInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.Dropout(0.5)(torch.relu(self.one(x)))
        return self.out(x)


class NormInForward(DropoutInForward):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(nn.BatchNorm1d(32)(self.one(x))))


class ParameterInForward(DropoutInForward):
    def forward(self, x: Tensor) -> Tensor:
        scale = nn.Parameter(torch.ones(32))
        return self.out(torch.relu(self.one(x)) * scale)


class PlainState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(6)
        self.spread = torch.tensor([1.0] * 6)
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.one((x - self.mean) / self.spread)))


class OnCuda(DropoutInForward):
    def forward(self, x: Tensor) -> Tensor:
        if torch.cuda.is_available():
            x = x.cuda()
        return self.out(torch.relu(self.one(x)))


class ToCuda(DropoutInForward):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.one(x.to("cuda"))))


class InDouble(DropoutInForward):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.one(x)).double()
        return self.out((h / h.norm(dim=1, keepdim=True)).float())


class NoSuperInit(nn.Module):
    def __init__(self) -> None:
        self.one = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x)


class SqueezeAll(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.out = nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(torch.relu(self.conv(x))).squeeze())


class FixedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(400, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.conv(x)).view(32, -1))


class FixedState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x, torch.zeros(1, 32, 16))
        return self.out(states[:, -1])


class ReluThrownAway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        F.relu(x)
        return self.out(x)


class LayerThrownAway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.drop, self.act, self.out = nn.Linear(6, 32), nn.Dropout(0.2), nn.Tanh(), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.one(x))
        self.drop(x)
        return self.out(x)


class ItemOnThePath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(6, 1)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        factor = self.scale(x).mean().item()
        return self.out(x * factor)


class NoReturn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> None:
        self.out(x)


class ShiftedByOwnBatch(nn.Module):
    """Sorts its rows, and so gives each row another's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sort(x, dim=0).values
        return self.out(torch.relu(self.one(x)))


class WeightsCopied(nn.Module):
    """Computes with a copy of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.one.weight.clone().detach()
        return self.out(torch.relu(x @ weight.T))


def squared_with_squeeze(output: Tensor, target: Tensor) -> Tensor:
    return ((output.squeeze() - target) ** 2).mean()


def mse_of_flat(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output.view(-1), target)


def absolute_first(output: Tensor, target: Tensor) -> Tensor:
    return (output[:, 0] - target).abs().mean()


def entropy_of_shares(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy(output, target)


def logarithm_of_shares(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.nll_loss(output.log(), target)


def logits_of_flat(output: Tensor, target: Tensor) -> Tensor:
    prediction = output.squeeze(-1)
    return (torch.log1p(torch.exp(prediction)) - prediction * target).mean()


class LearnedNoise(nn.Module):
    """A loss whose own deviation is to be learned, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.zeros(1))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (torch.exp(-self.logarithm) * (output - target) ** 2 + self.logarithm).mean()


class NormalisedAnswer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def step_without_update(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(batch.inputs["X"]), batch.target)
    loss.backward()
    return loss
