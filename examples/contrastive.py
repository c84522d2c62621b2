"""Contrastive learning on handwritten digits: two noisy views of a picture lie together, without labels (SimCLR, 2020).

Run: python examples/contrastive.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn.functional import cross_entropy, normalize

import netwright as nw


def view(pictures: torch.Tensor) -> torch.Tensor:
    """Return pictures ``(rows, 1, 8, 8)`` shifted by up to a pixel, brighter or darker, with noise."""
    rows, shifts = len(pictures), torch.randint(-1, 2, (2,)).tolist()
    moved = torch.roll(pictures, shifts, dims=(2, 3)) * (0.7 + 0.6 * torch.rand(rows, 1, 1, 1))
    return moved + 0.15 * torch.randn_like(moved)


def contrast(model: nn.Module, batch: nw.Batch) -> torch.Tensor:
    """Return the loss of telling which two views are of one picture among all of the batch."""
    one, other = (normalize(model(view(batch.input)), dim=1) for _ in range(2))
    alike = one @ other.T / 0.2
    places = torch.arange(len(alike))
    return (cross_entropy(alike, places) + cross_entropy(alike.T, places)) / 2


def step(model: nn.Module, batch: nw.Batch, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    """Train on a batch."""
    loss = contrast(model, batch)
    loss.backward()
    optimizer.step()
    return loss


def main(run_dir: str | None = None) -> nw.Run:
    """Train the network, let it and the pixels find 10 labelled digits of each kind again, and return the run."""
    pictures, labels = load_digits(return_X_y=True)
    pictures = (pictures / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    run = nw.train(
        layers=[
            "Conv2d(32, kernel_size=3, padding=1)",
            "ReLU()",
            "MaxPool2d(2)",
            "Flatten()",
            "Linear(128)",
            "ReLU()",
            "Linear(32)",
        ],
        data=pictures,
        preparation=None,
        step=step,
        evaluate=contrast,
        optimizer="Adam(lr=2e-3)",
        batch_size=128,
        epochs=40,
        run_dir=run_dir,
        observers=[print],
    )
    parts = run.inputs.split
    known = np.concatenate([parts.train[labels[parts.train] == label][:1] for label in range(10)])
    for name, vectors in (("pixels", pictures.reshape(-1, 64)), ("learned", run.predict(pictures))):
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        nearest = KNeighborsClassifier(1).fit(unit[known], labels[known])
        print(
            f"accuracy by one labelled digit of each kind, {name}: {nearest.score(unit[parts.test], labels[parts.test]):.3f}"
        )
    return run


if __name__ == "__main__":
    main()
