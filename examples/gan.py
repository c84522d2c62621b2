"""A generative adversarial network on handwritten digits: two networks in one module, two optimizers, one step.

Run: python examples/gan.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus

import netwright as nw

NOISE = 16


class Pair(nn.Module):
    """A generator of pictures and the critic that tells them from real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(NOISE, 128), nn.ReLU(), nn.Linear(128, 64), nn.Sigmoid())
        self.critic = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 1))

    def forward(self, real: torch.Tensor) -> torch.Tensor:
        """Draw as many pictures as there are rows."""
        return self.generator(torch.randn(len(real), NOISE, device=real.device))


def step(model: Pair, batch: nw.Batch, optimizers: dict[str, torch.optim.Optimizer]) -> torch.Tensor:
    """Train the critic on real and drawn pictures, then the generator against it; return the loss of the generator."""
    drawn = model(batch.input)
    told = softplus(-model.critic(batch.input)).mean() + softplus(model.critic(drawn.detach())).mean()
    told.backward()
    optimizers["critic"].step()
    optimizers["generator"].zero_grad()
    loss = softplus(-model.critic(drawn)).mean()
    loss.backward()
    optimizers["generator"].step()
    optimizers["critic"].zero_grad()
    return loss


def distance(model: Pair, batch: nw.Batch) -> dict[str, torch.Tensor]:
    """Return how far drawn pictures are from real ones: the mean difference of the pixels' means and deviations."""
    drawn, real = model(batch.input), batch.input
    means, deviations = (drawn.mean(0) - real.mean(0)).abs().mean(), (drawn.std(0) - real.std(0)).abs().mean()
    return {"loss": means + deviations, "means": means, "deviations": deviations}


def main(run_dir: str | None = None) -> nw.Run:
    """Train the pair, show a picture, and return the run."""
    pixels = (load_digits().data / 16).astype(np.float32)
    run = nw.train(
        model=(Pair, {}),
        data=pixels,
        preparation=None,
        step=step,
        evaluate=distance,
        optimizer={
            "critic": lambda model: torch.optim.Adam(model.critic.parameters(), lr=1e-3, betas=(0.5, 0.999)),
            "generator": lambda model: torch.optim.Adam(model.generator.parameters(), lr=1e-3, betas=(0.5, 0.999)),
        },
        batch_size=64,
        epochs=60,
        run_dir=run_dir,
        observers=[print],
    )
    for line in run.predict(pixels[:1]).reshape(8, 8):
        print("".join(" .:-=+*#%@"[int(value * 9.99)] * 2 for value in line))
    print("distance before and after:", run.history[0]["valid_loss"], run.tested["metrics"]["loss"]["value"])
    return run


if __name__ == "__main__":
    main()
