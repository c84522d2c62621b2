"""Networks, losses and optimizers of dense layers, and their step in double precision, which all other ways are measured by."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples
from netwright.engine.dense import DenseEngine
from netwright.engine.eager import EagerEngine
from netwright.recording.graphs import Graphs

ROWS, BATCH = 53, 19


def dense(*sizes: int, between: Callable[[], nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    """Return layers of such sizes."""
    parts: list[nn.Module] = []
    for number, (width, outputs) in enumerate(zip(sizes, sizes[1:], strict=False)):
        parts += [between()] if number else []
        parts.append(nn.Linear(width, outputs, bias=bias))
    return nn.Sequential(*parts)


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "three layers": lambda: dense(20, 33, 17, 5),
    "wide input": lambda: dense(300, 40, 5),
    "one layer": lambda: dense(20, 5),
    "no bias": lambda: dense(20, 33, 5, bias=False),
    "flattened": lambda: nn.Sequential(nn.Flatten(), *dense(20, 16, 5)),
    "tanh": lambda: dense(20, 33, 5, between=nn.Tanh),
    "sigmoid": lambda: dense(20, 33, 5, between=nn.Sigmoid),
    "SiLU": lambda: dense(20, 33, 5, between=nn.SiLU),
    "GELU": lambda: dense(20, 33, 5, between=nn.GELU),
    "leaky ReLU": lambda: dense(20, 33, 5, between=lambda: nn.LeakyReLU(0.2)),
    "nothing between": lambda: dense(20, 33, 5, between=nn.Identity),
}
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "classes": nn.CrossEntropyLoss,
    "weighted": lambda: nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 3.0, 0.0, 2.0])),
    "smoothed": lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
    "squares": nn.MSELoss,
    "chances": nn.BCEWithLogitsLoss,
}
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.003),
    "Adam decayed": lambda model: torch.optim.Adam(
        model.parameters(), lr=0.003, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-6
    ),
    "AdamW": lambda model: torch.optim.AdamW(by_groups(model), lr=0.003),
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    "nesterov": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
}


def by_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return weights and biases as two groups, of which one decays and the other learns slower."""
    values = list(model.parameters())
    return [
        {"params": [value for value in values if value.dim() > 1], "weight_decay": 0.2},
        {"params": [value for value in values if value.dim() == 1], "weight_decay": 0.0, "lr": 0.001},
    ]


def rows_for(network: nn.Sequential, loss: str, shape: tuple[int, ...] | None = None) -> Examples:
    """Return rows and targets that a network and a loss read."""
    draw = torch.Generator().manual_seed(1)
    linears = [part for part in network if isinstance(part, nn.Linear)]
    width, outputs = linears[0].in_features, linears[-1].out_features
    x = torch.randn(ROWS, *(shape or (width,)), generator=draw)
    if loss in ("squares", "chances"):
        target = torch.rand(ROWS, outputs, generator=draw)
        return Examples({"x": x}, target.round() if loss == "chances" else target)
    return Examples({"x": x}, torch.randint(0, outputs, (ROWS,), generator=draw))


class Pair:
    """A step in kernels beside the same step in float64.

    Args:
        network, loss, optimizer: Names above.
        device: Where the kernels run; float64 runs there too.
        graphs: Knows the generator.
        fused: Whether the optimizer is told to be fused.
    """

    def __init__(
        self, network: str, loss: str, optimizer: str, device: torch.device, graphs: Graphs, fused: bool = True
    ) -> None:
        torch.manual_seed(0)
        model = NETWORKS[network]()
        shape = (4, 5) if network == "flattened" else None
        self.examples = rows_for(model, loss, shape)
        self.examples = Examples({"x": self.examples.inputs["x"].to(device)}, self.examples.target.to(device), device)
        model = model.to(device)
        self.exact, self.exact_loss = copy.deepcopy(model).double(), LOSSES[loss]().to(device).double()
        self.exact_optimizer = OPTIMIZERS[optimizer](self.exact)
        made = OPTIMIZERS[optimizer](model)
        for group in made.param_groups:
            group["fused"], group["foreach"] = fused, False
        self.eager = EagerEngine(model, LOSSES[loss]().to(device), made)
        self.engine = DenseEngine(self.eager, lambda: self.eager, graphs)

    def take(self, steps: int, by_number: bool) -> list[float]:
        """Take some steps; return how far each loss is from the exact one, as a share of it."""
        found = []
        for step in range(steps):
            rows = torch.randperm(ROWS, generator=torch.Generator().manual_seed(step))[:BATCH].to(self.examples.device)
            loss = (
                self.engine.train_rows(self.examples, rows)
                if by_number
                else self.engine.train_step(self.examples.batch(rows))
            )
            found.append(abs(loss.item() / self._exactly(self.examples.batch(rows)) - 1))
        return found

    def _exactly(self, batch: Batch) -> float:
        self.exact_optimizer.zero_grad()
        target = batch.target.double() if batch.target.is_floating_point() else batch.target
        loss = self.exact_loss(self.exact(batch.input.double()), target)
        loss.backward()
        self.exact_optimizer.step()
        return float(loss.detach())

    @property
    def apart(self) -> float:
        """How far the weights are from the exact ones, as a share of them, at most of all parameters."""
        return max(
            share(one, other) for one, other in zip(self.eager.model.parameters(), self.exact.parameters(), strict=True)
        )


def share(found: Tensor, exact: Tensor) -> float:
    """Return the 2-norm of a difference as a share of what is exact."""
    return ((found.detach().double() - exact.detach()).norm() / exact.detach().norm()).item()


class ByTorch:
    """Does what `netwright.recording.dense.Launched` does, in operations of torch."""

    def __init__(
        self, layers: Any, head: Any, rule: Any, x: Tensor, target: Tensor, rows: Tensor | None, precision: str
    ) -> None:
        self.layers, self.head, self.rule = layers, head, rule
        self.x, self.target = (x, target) if rows is None else (x[rows], target[rows])
        self.spoiled = 1.0  # a factor of all gradients

    def forward(self) -> Tensor:
        """Return the share of each row in the loss."""
        if self.rule.steps:
            torch._foreach_add_(list(self.rule.steps), 1)
        functions = {
            "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "none": lambda z: z,
            "silu": nn.functional.silu, "gelu": nn.functional.gelu,
        }  # fmt: skip
        self.weights = [v.detach().requires_grad_() for one in self.layers for v in (one.weight, one.bias) if v is not None]
        left, value = list(self.weights), self.x
        with torch.enable_grad():
            for one in self.layers:
                value = nn.functional.linear(value, left.pop(0), None if one.bias is None else left.pop(0))
                leaky = one.kind == "leaky_relu"
                value = nn.functional.leaky_relu(value, one.slope) if leaky else functions[one.kind](value)
                value = nn.functional.dropout(value, one.dropout)
            if self.head.kind == "classes":
                loss = nn.CrossEntropyLoss(self.head.weight, label_smoothing=self.head.smoothing)
            else:
                loss = {"squares": nn.MSELoss, "chances": nn.BCEWithLogitsLoss}[self.head.kind]()
            self.loss = loss(value, self.target)
        return self.loss.detach().reshape(1)

    def forget(self) -> None:
        """Count the step as none."""
        torch._foreach_sub_(list(self.rule.steps), 1)

    def update(self) -> Tensor:
        """Change weights and optimizer; return the mean loss."""
        rule, (beta1, _, beta2, _, eps) = self.rule, self.rule.numbers.tolist()
        for number, (value, gradient) in enumerate(
            zip(self.weights, torch.autograd.grad(self.loss, self.weights), strict=True)
        ):
            value, rate, decay = value.detach(), rule.rates[number], rule.decays[number]
            gradient = gradient * self.spoiled
            if rule.kind == "adamw":
                value.mul_(1 - rate * decay)
            else:
                gradient = gradient + decay * value
            if rule.kind in ("adam", "adamw"):
                rule.firsts[number].lerp_(gradient, 1 - beta1)
                rule.seconds[number].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                step = float(rule.steps[number])
                root = (rule.seconds[number] / (1 - beta2**step)).sqrt() + eps
                value.sub_(rate * rule.firsts[number] / (1 - beta1**step) / root)
            elif rule.kind == "sgd":
                value.sub_(rate * gradient)
            else:
                rule.firsts[number].mul_(beta1).add_(gradient)
                value.sub_(
                    rate * (gradient + beta1 * rule.firsts[number] if rule.kind == "nesterov" else rule.firsts[number])
                )
        return self.loss.detach()
