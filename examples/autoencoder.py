"""An autoencoder on handwritten digits: 64 pixels through 8 numbers and back, trained by a step of one's own.

Run: python examples/autoencoder.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn
from torch.nn.functional import mse_loss

import netwright as nw


def reconstruction(model: nn.Module, batch: nw.Batch) -> torch.Tensor:
    """Return the mean squared error of the pixels; of new rows it is the figure, of train rows the loss."""
    return mse_loss(model(batch.input), batch.input)


def step(model: nn.Module, batch: nw.Batch, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Train on a batch."""
    loss = reconstruction(model, batch)
    loss.backward()
    optimizer.step()
    return loss


def main(run_dir: str | None = None) -> nw.Run:
    """Train the autoencoder, compare it with principal components, and return the run."""
    pixels = (load_digits().data / 16).astype(np.float32)
    run = nw.train(
        layers=["Linear(64)", "ReLU()", "Linear(8)", "Linear(64)", "ReLU()", "Linear(64)"],
        data=pixels,
        preparation=None,
        step=step,
        evaluate=reconstruction,
        optimizer="Adam(lr=3e-3)",
        epochs=60,
        run_dir=run_dir,
        observers=[print],
    )
    parts = run.inputs.split
    linear = PCA(8).fit(pixels[parts.train])
    restored = linear.inverse_transform(linear.transform(pixels[parts.test]))
    print("restored pictures:", run.predict(pixels[:5]).shape)
    print("squared error a pixel on test rows:", round(run.tested["metrics"]["loss"]["value"], 4))
    print("8 principal components:", round(float(np.mean((restored - pixels[parts.test]) ** 2)), 4))
    return run


if __name__ == "__main__":
    main()
