"""An own module for examples/own_module.toml: a small residual network for the digits."""

import torch
from torch import nn


class ResidualDigits(nn.Module):
    """A convolution, residual blocks, and a linear layer; no base class but torch's."""

    def __init__(self, channels: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, kernel_size=3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
            for _ in range(blocks)
        )
        self.last = nn.Linear(channels, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x.mean(dim=(2, 3)))
