"""What becomes of settings where several processes train, without starting any."""

from __future__ import annotations

import pytest

from netwright.distributed.world import World
from netwright.errors import ConfigError
from netwright.pipeline.bench import gather, prepare
from netwright.pipeline.together import levelled


@pytest.mark.parametrize(("size", "near"), [(3, 33), (64, 64)])
def test_the_batch_size_that_a_recipe_chose_is_the_one_that_is_divided(size: int, near: int) -> None:
    config, name = gather("sklearn:iris", [], {})
    assert config.data.batch_size % 64 == 0  # before the recipe says 32
    with pytest.raises(ConfigError) as refused:
        prepare(config, name, world=World(0, size, 0, size))
    assert str(refused.value) == (
        f"data.batch_size: 32 rows came for {size} processes; expected a multiple of {size}, as each process takes an equal part; "
        f"set data.batch_size = {near}"
    )


def test_a_batch_size_that_is_written_and_divides_is_kept() -> None:
    config, name = gather("sklearn:iris", [], {"batch_size": 30})
    assert prepare(config, name, world=World(0, 3, 0, 3)).config.data.batch_size == 30


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (1, "fsdp")),
        ({"threads": 3}, (3, "fsdp")),
        ({"strategy": "ddp"}, (1, "ddp")),
    ],
)
def test_what_machines_chose_for_themselves_is_levelled_and_what_is_written_stays(
    asked: dict[str, object], expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def highest(world: World, flags: list[int]) -> list[int]:
        """Answer for another machine too: one thread for each process, and too little memory for a whole copy."""
        return [max(int(own), other) for own, other in zip(flags, (-1, 1), strict=True)]

    config, name = gather("sklearn:iris", [], {"batch_size": 30, **asked})
    world = World(0, 2, 0, 1)
    alone = prepare(config, name, world=world).config
    three = alone.model_copy(update={"training": alone.training.model_copy(update={"threads": 3})})
    monkeypatch.setattr(World, "highest", highest)
    found = levelled(three, config, world)
    assert (found.training.threads, found.training.strategy) == expected
    assert found.data == alone.data
