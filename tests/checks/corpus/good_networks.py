"""Own modules that are as they should be."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SimpleModel(nn.Module):
    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(in_dim, hidden_dim), nn.Linear(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)))


class ResidualPerceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 32), nn.Linear(32, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.short = nn.Sequential()
        if stride != 1 or before != after:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm_one(self.one(x)))
        return F.relu(self.norm_two(self.two(y)) + self.short(x))


class SmallResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.out = nn.Linear(64, 4)
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.norm_two.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.first(x))))
        return self.out(F.adaptive_avg_pool2d(x, 1).flatten(1))


class PreActivated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(3))
        self.convolutions = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(3))
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            x = x + convolution(F.relu(norm(x)))
        return self.out(F.relu(x).mean(dim=(2, 3)))


class Inverted(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        wide = before * 4
        self.layers = nn.Sequential(
            nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class MobileBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(Inverted(8, 12), Inverted(12, 16))
        self.last = nn.Sequential(nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU6())
        self.out = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(self.blocks(self.first(x))).mean([2, 3]))


class ZeroBranches(nn.Module):
    """ReZero: Bachlechner and others, 2020."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 32), nn.Linear(32, 3)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))
        self.weights = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for weight, block in zip(self.weights, self.blocks, strict=True):
            x = x + weight * F.relu(block(x))
        return self.out(x)


class ZeroHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 32), nn.Linear(32, 3)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.hidden(x)))


class ScaledResiduals(ResidualPerceptron):
    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ParameterList(nn.Parameter(1e-4 * torch.ones(32)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for scale, block in zip(self.scales, self.blocks, strict=True):
            x = x + scale * block(x)
        return self.out(x)


class OwnAttention(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.back, self.out = nn.Linear(width, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        weights = (self.query(x) @ self.key(x).transpose(1, 2) / math.sqrt(x.shape[-1])).softmax(dim=-1)
        x = x + self.back(weights @ self.value(x))
        return self.out(x.mean(dim=1))


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, stride=4)
        self.word = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 10, width))
        layer = nn.TransformerEncoderLayer(width, 4, 64, 0.1, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.word.expand(len(x), -1, -1), x], dim=1) + self.places
        return self.out(self.norm(self.encoder(x)[:, 0]))


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 16)
        self.norm_one, self.norm_two = nn.LayerNorm(16), nn.LayerNorm(16)
        self.over_time = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.over_channels = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.over_time(self.norm_one(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.over_channels(self.norm_two(x))
        return self.out(x.mean(dim=1))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.out = nn.Linear(6, 32), nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.value(x) * torch.sigmoid(self.gate(x)))


class LastOfLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(3, 16, num_layers=2, batch_first=True, dropout=0.1), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, (last, _) = self.lstm(x)
        return self.out(last[-1])


class StatedGRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(1, x.size(0), 16, device=x.device)
        states, _ = self.gru(x, state)
        return self.out(states[:, -1, :])


class NoisyTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        return self.out(F.elu(self.hidden(x)))


class FunctionalDropout(NoisyTraining):
    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(x, 0.1, self.training)
        x = F.dropout(F.relu(self.hidden(x)), p=0.3, training=self.training)
        return self.out(x)


class StraightThrough(NoisyTraining):
    """Bengio and others, 2013."""

    def forward(self, x: Tensor) -> Tensor:
        soft = torch.sigmoid(self.hidden(x))
        hard = (soft > 0.5).float()
        return self.out(soft + (hard - soft).detach())


class DividesPixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x / 255.0
        return self.out(F.relu(self.conv(x)).amax(dim=(2, 3)))


class NormalisesItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class WithBuffers(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.names = ["a", "b", "c"]
        self.sizes = (6, 32, 3)
        self.hidden, self.out = nn.Linear(6, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden(x - self.mean)))


class SharedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.out = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        for _ in range(3):
            x = torch.tanh(self.again(x))
        return self.out(x)


class Modules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 16)])
        self.heads = nn.ModuleDict({"main": nn.Linear(16, 3)})
        self.activations = [torch.relu, torch.tanh]

    def forward(self, x: Tensor) -> Tensor:
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x = activation(layer(x))
        return self.heads["main"](x)


class SqueezesOneAxis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.out = nn.Conv2d(1, 8, 3), nn.AdaptiveMaxPool2d(1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(F.relu(self.conv(x))).squeeze(-1).squeeze(-1))


class SmallUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 16, 3, padding=1)
        self.up, self.three = nn.ConvTranspose1d(16, 8, 2, stride=2), nn.Conv1d(16, 8, 3, padding=1)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.one(x))
        b = F.relu(self.two(F.max_pool1d(a, 2)))
        c = F.relu(self.three(torch.cat([self.up(b), a], dim=1)))
        return self.out(c.mean(dim=2))


class Dilated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(3 if place == 0 else 16, 32, 3, padding=2**place, dilation=2**place) for place in range(4)
        )
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            value, gate = layer(x).chunk(2, dim=1)
            x = torch.tanh(value) * torch.sigmoid(gate)
        return self.out(x[:, :, -1])


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.gate(x), dim=1)
        answers = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (weights.unsqueeze(2) * answers).sum(dim=1)


class LearnedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.places = nn.Linear(3, 16), nn.Embedding(12, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.places(torch.arange(x.shape[1], device=x.device))
        y, _ = self.attention(x, x, x)
        return self.out(self.norm(x + y)[:, 0])


class RadialBasis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(20, 6))
        self.out = nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.exp(-(torch.cdist(x, self.centres) ** 2) / 6))


class SkipToOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.hidden, self.deep = nn.Linear(6, 1), nn.Linear(6, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x) + self.deep(F.relu(self.hidden(x)))


class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.out = nn.Linear(6, 3, bias=False), nn.Linear(3, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.up(self.down(x))))


class SqueezedAnswer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.one(x))).squeeze(1)
