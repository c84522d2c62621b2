"""Shards at an address: several processes fetch each of them once, side by side, and read the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import counted
import numpy as np
import ranks
from ranks import Ranks

from netwright.sources.opening import digest_source

SHARDS = 4


def test_two_processes_fetch_each_shard_once_and_both_of_them_some(tmp_path: Path) -> None:
    remote, run = tmp_path / "remote", tmp_path / "run"
    remote.mkdir()
    (remote / counted.SLOW).touch()
    generator = np.random.default_rng(0)
    for number in range(SHARDS):
        rows = generator.normal(size=(30, 2)).round(4)
        lines = [f"{a},{b},{a - b:.4f}" for a, b in rows]
        (remote / f"part-{number}.csv").write_text("\n".join(["a,b,y", *lines, ""]))
    told = {"data.target": '"y"', "data.cache": json.dumps(str(tmp_path / "cache")), "data.storage": '"map"'}
    words = ranks.training(Path("part-*.csv"), run, **told)
    words[1] = counted.address(remote / "part-*.csv")
    ended = Ranks(tmp_path / "log", [(ranks.command, (words, counted.register))] * 2).wait()
    assert [one.code for one in ended] == [0, 0], ended
    opened = counted.opened(remote)
    assert sorted(line["name"] for line in opened) == [f"part-{number}.csv" for number in range(SHARDS)]
    assert len({line["process"] for line in opened}) == 2
    record = json.loads((run / "run.json").read_text())["data"]
    assert (record["source"], record["digest"]) == (words[1], digest_source(str(remote / "part-*.csv")))
