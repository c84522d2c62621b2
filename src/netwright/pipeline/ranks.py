"""The generators of each of several processes, in a checkpoint and out of it. Floor 12."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from netwright.checkpoint import trees
from netwright.distributed.world import World
from netwright.seeding import generator_states, restore_generators, seed_all, torch_seed

RANKS = "ranks"  # a part of a checkpoint: the generators of each process, in their order


def generators_of_all(world: World, device: torch.device) -> list[Any]:
    """Return the states of the generators of each process, in their order, to all."""
    tensors: dict[str, Tensor] = {}
    skeleton = trees.encode(generator_states(device), tensors, RANKS)
    skeletons, values = world.gathered(skeleton), world.gathered_tensors(tensors)
    return [trees.decode(one, found) for one, found in zip(skeletons, values, strict=True)]


def own_generators(world: World, parts: Mapping[str, Any], device: torch.device, seed: int) -> Any:
    """Return the states that the generators of this process had at a checkpoint.

    Where it is one of another number of processes, those of all but the first are seeded anew by rank and step.

    Args:
        world: The processes.
        parts: The checkpoint.
        device: That the network is on.
        seed: The user's.
    """
    if world.leads:
        return parts["generators"]
    kept = parts.get(RANKS, ())
    if len(kept) == world.size:
        return kept[world.rank]
    before = generator_states(device)
    number = torch_seed(seed, "training", world.rank, parts["progress"]["step"])
    seed_all(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    found = generator_states(device)
    restore_generators(before, device)
    return found
