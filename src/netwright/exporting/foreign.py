"""Weights of other programs (.pt, .pth, .bin), which may hide code, as safetensors: the one place that reads such files.

They are read by ``torch.load(weights_only=True)`` in a process of its own with limits on memory, time and files; only the
bytes of tensors come back. Floor 10.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from netwright import files
from netwright.errors import CheckpointError, SafetyError, first_line

WITHIN = ("state_dict", "model_state_dict", "model", "module", "net", "weights")  # where programs put weights
SECONDS = 300
ADDRESS_SPACE = 16 << 30  # bytes that torch itself may map
TIMES = 4  # as large as the file the memory may be beyond that
REFUSED = 8


def import_weights_file(source: Path, target: Path) -> dict[str, tuple[int, ...]]:
    """Turn a file of foreign weights into a safetensors file.

    Args:
        source: What ``torch.save`` of another program wrote: a dictionary of tensors, or one that holds such a dictionary.
        target: A name that ends in ``.safetensors``.

    Returns:
        The shapes of the tensors by name.

    Raises:
        CheckpointError: No such file, or no dictionary of tensors.
        SafetyError: It holds more than tensors, or takes more memory or time than it should.
    """
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: expected a name that ends in .safetensors; change it")
    content = foreign_bytes(source)
    shapes = {name: tuple(value.shape) for name, value in safetensors.torch.load(content).items()}
    files.write_bytes(target, content)
    return shapes


def foreign_bytes(source: Path) -> bytes:
    """Return a file of foreign weights as safetensors; see `import_weights_file`."""
    if not source.is_file():
        raise CheckpointError(f"{source}: no such file; expected weights such as model.pt; check the path")
    with tempfile.TemporaryFile() as stream:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-m", "netwright.exporting.foreign", str(source.absolute())],
                stdout=stream, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False,
                env={"PATH": os.defpath},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SafetyError(f"{source}: took more than {SECONDS} seconds; expected a file of tensors; refused") from None
        stream.seek(0)
        content = stream.read()
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode == CheckpointError.exit_code:
        raise CheckpointError(f"{source}: {said[-1] if said else 'cannot be read'}")
    if done.returncode:
        reason = said[-1] if said and done.returncode == REFUSED else "the process that read it did not end well"
        advice = ", so save them by torch.save(model.state_dict(), PATH)" if Path(source).suffix in (".pt", ".pth") else ""
        raise SafetyError(f"{source}: {reason}; expected tensors by name and nothing else; refused{advice}")
    return content


def _limit(size: int) -> None:
    """Limit what this process may take; Windows has no such limits."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, ADDRESS_SPACE + TIMES * size),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, TIMES * size + (1 << 20)),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _tensors(value: Any) -> dict[str, Tensor]:
    """Return the tensors by name of what a file held.

    Raises:
        ValueError: There are none.
    """
    for _ in range(2):
        if isinstance(value, Mapping) and value and all(isinstance(item, Tensor) for item in value.values()):
            return {str(name): item.detach().cpu().contiguous().clone() for name, item in value.items()}
        inner = [value[key] for key in WITHIN if key in value] if isinstance(value, Mapping) else []
        if not inner:
            break
        value = inner[0]
    raise ValueError(f"a {type(value).__name__} came; expected a dictionary of tensors, or one with the key state_dict")


def main(path: str) -> int:
    """Read a file in this process and write its tensors to standard output as safetensors."""
    import torch

    _limit(os.stat(path).st_size)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        sys.stderr.write("takes more memory than its size allows\n")
        return REFUSED
    except Exception as error:  # whatever a hostile file raises
        text = first_line(error)
        weights_only = "weights" in text.lower() or "unpickl" in type(error).__name__.lower()
        sys.stderr.write(("holds more than tensors" if weights_only else f"cannot be read ({text[:100]})") + "\n")
        return REFUSED if weights_only else CheckpointError.exit_code
    try:
        content = safetensors.torch.save(_tensors(held))
    except ValueError as error:
        sys.stderr.write(f"{first_line(error)}; save model.state_dict() there\n")
        return CheckpointError.exit_code
    sys.stdout.buffer.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
