"""What becomes of settings where several processes train, without starting any."""

from __future__ import annotations

import pytest

from netwright.distributed.world import World
from netwright.errors import ConfigError
from netwright.pipeline.bench import gather, prepare


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
