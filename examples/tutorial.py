"""The tutorial, every step of it: a Module class, dummy data 100 x 10, Adam, 20 epochs, validation, test.

Run: python examples/tutorial.py
"""

import torch
from torch import nn

import netwright as nw


class SimpleModel(nn.Module):
    """The tutorial's network; its ``nn.ReLU(x)`` is mended: nn.ReLU is a layer, torch.relu the function."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, out_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.fc1(x))
        return self.fc2(x)


def main(run_dir: str | None = None) -> nw.Run:
    """Train and test the tutorial's network; return the run."""
    torch.manual_seed(0)
    X = torch.rand(100, 10)
    y = torch.rand(100, 1)
    run = nw.train(
        model=SimpleModel(in_dim=10, hidden_dim=16, out_dim=1),
        data=(X, y),
        loss=nn.MSELoss(),
        optimizer="Adam(lr=0.001)",
        epochs=20,
        batch_size=10,
        split={"test": 0.2, "valid": 0.2},
        preparation=None,
        run_dir=run_dir,
        observers=[print],
    )
    model = run.model  # a plain nn.Module with the weights of the best epoch
    with torch.no_grad():
        print("first prediction:", model(X[:1]).item(), "target:", y[0].item())
    return run


if __name__ == "__main__":
    main()
