"""Checkpoints on the disk: a folder each, committed by one rename, verified by digests before a tensor of it is used.

A checkpoint holds a file of tensors (safetensors) per part, ``state.json`` and ``manifest.json`` with the size and SHA-256
of each file. The digests tell damage; they do not tell who wrote it. Floor 8.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from netwright import files
from netwright.checkpoint import trees
from netwright.checkpoint.shards import PiecesError, joined, own_pieces, piece_files
from netwright.distributed.pieces import Piece
from netwright.errors import CheckpointError, SafetyError, first_line

FORMAT = 1
STATE = "state.json"
MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{9})(?:-epoch-(\d{6}))?")
LARGEST_JSON = 64 << 20  # bytes
LARGEST_MANIFEST = 1 << 20
NO_OTHERS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
TRIES = 1000  # to read a checkpoint while newer ones push it out


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: where it lies and the parts it holds."""

    path: Path
    parts: dict[str, Any]


def name_of(step: int, epoch: int | None) -> str:
    """Return the name of the checkpoint after a step, or of one that stands at the end of an epoch."""
    return f"step-{step:09d}" if epoch is None else f"step-{step:09d}-epoch-{epoch:06d}"


def step_of(path: Path) -> int:
    """Return the step of a checkpoint's name."""
    found = NAME.fullmatch(path.name)
    return int(found[1]) if found else 0


def write_parts(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write a folder of parts at once; one of that name is replaced.

    Args:
        folder: The checkpoint to be; the folder above it exists.
        parts: Values as `netwright.checkpoint.trees.encode` takes them, by the name of the part.

    Raises:
        CheckpointError: A value cannot be saved.
        ResourceError: The disk is full or cannot be written; nothing of it stays.
    """
    contents = contents_of(parts)
    with files.replaced(folder) as temporary:
        write_contents(temporary, folder.name, contents)


def contents_of(parts: Mapping[str, Any], pieces: dict[str, dict[str, Tensor]] | None = None) -> dict[str, bytes]:
    """Return the files of parts by name, without their manifest.

    Args:
        parts: See `write_parts`.
        pieces: Takes, by part, what this process holds of tensors that are dealt out; they are in no file then.
    """
    contents: dict[str, bytes] = {}
    skeletons: dict[str, Any] = {}
    for name, part in parts.items():
        tensors: dict[str, Tensor] = {}
        held: dict[str, Tensor] = {}
        skeletons[name] = trees.encode(part, tensors, name, None if pieces is None else held)
        if tensors:
            contents[f"{name}.safetensors"] = packed(tensors)
        if pieces is not None and held:
            pieces[name] = held
    contents[STATE] = json.dumps(skeletons, allow_nan=False).encode("utf-8")
    return contents


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a file of tensors (safetensors)."""
    return safetensors.torch.save(dict(tensors))


def entry_of(content: bytes) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_contents(
    folder: Path, name: str, contents: Mapping[str, bytes], others: Mapping[str, Mapping[str, Any]] = NO_OTHERS
) -> None:
    """Write files into a folder that will have a name, and their manifest last.

    Args:
        folder: Where they are written.
        name: That the folder will have.
        contents: By the name of the file.
        others: What the manifest says of files that are there already; see `entry_of`.
    """
    for file, content in contents.items():
        files.write_bytes(folder / file, content)
    files.write_bytes(folder / MANIFEST, _manifest(name, contents, others))


def _manifest(name: str, contents: Mapping[str, bytes], others: Mapping[str, Mapping[str, Any]] = NO_OTHERS) -> bytes:
    listed = {**others, **{file: entry_of(content) for file, content in contents.items()}}
    return _sealed({"format": FORMAT, "name": name, "files": dict(sorted(listed.items()))})


def verify_contents(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Read files back and compare them with what was written.

    Raises:
        CheckpointError: One differs.
    """
    for file, content in contents.items():
        _read_listed(folder / file, entry_of(content))


def _sealed(told: Mapping[str, Any]) -> bytes:
    """Return a manifest in its one spelling, with the digest of itself, so that any changed byte is seen."""
    plain = json.dumps(told, indent=1, sort_keys=True)
    digest = hashlib.sha256(plain.encode("utf-8")).hexdigest()
    return (json.dumps({**told, "sha256": digest}, indent=1, sort_keys=True) + "\n").encode("utf-8")


def read_parts(folder: Path, place: tuple[int, int] | None = None) -> dict[str, Any]:
    """Read a folder of parts: every file is compared with the manifest before any of it is used.

    Args:
        folder: The checkpoint.
        place: Rank and size of processes that hold pieces of the network: of tensors that are dealt out the rows of this one are
            read, as `netwright.distributed.pieces.Piece`, and no file without any of them; None for all rows.

    Raises:
        CheckpointError: A file is missing, damaged, a link, or of another checkpoint; the first is named.
        SafetyError: A file is larger or nested deeper than any checkpoint.
    """
    listed = _listed(folder)

    def read(file: str) -> dict[str, Tensor]:
        return safetensors.torch.load(_read_listed(folder / file, listed[file]))

    def tensors_of(part: str, skeleton: Any) -> dict[str, Tensor | Piece]:
        file, names = f"{part}.safetensors", piece_files(part, listed)
        pieces: Mapping[str, Tensor | Piece] = {}
        if names:
            pieces = joined(names, read) if place is None else own_pieces(names, read, trees.dealt_shapes(skeleton), *place)
        return {**(read(file) if file in listed else {}), **pieces}

    try:
        skeletons = json.loads(_read_listed(folder / STATE, listed[STATE]), parse_constant=_refuse_constant)
        return {name: trees.decode(part, tensors_of(name, part)) for name, part in skeletons.items()}
    except PiecesError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except RecursionError as error:
        raise SafetyError(f"{folder / STATE}: nested too deeply; expected the state of a run; refused") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: cannot be read ({type(error).__name__}: {first_line(error)}); expected a checkpoint; name another"
        ) from error


def _verified(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of a checkpoint after its digest was compared."""
    return {file: _read_listed(folder / file, entry) for file, entry in _listed(folder).items()}


def _listed(folder: Path) -> dict[str, Any]:
    """Return what the manifest says of each file of a checkpoint, the state among them."""
    listed = _read_manifest(folder)
    if STATE not in listed:
        raise CheckpointError(f"{folder / MANIFEST}: {STATE} is not listed; expected a checkpoint; it is damaged")
    return listed


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} among the numbers")


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return the files that a checkpoint holds."""
    path = folder / MANIFEST
    if folder.is_symlink() or not folder.is_dir():
        raise CheckpointError(f"{folder}: no folder; expected a checkpoint; name another")
    content = _read_file(path, LARGEST_MANIFEST)
    try:
        told = json.loads(content)
        version, sealed = told.get("format"), _sealed({key: value for key, value in told.items() if key != "sha256"})
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({first_line(error)}); expected a manifest; it is damaged") from error
    if sealed != content:
        raise CheckpointError(f"{path}: does not agree with its own digest; expected it as written; it is damaged")
    if version != FORMAT:
        raise CheckpointError(
            f"{path}: format {version} came; this netwright reads format {FORMAT}; install a newer netwright"
        )
    if told.get("name") != folder.name:
        raise CheckpointError(f"{path}: belongs to {told.get('name')}; expected that of {folder.name}; it was swapped")
    listed = told.get("files")
    if not isinstance(listed, dict) or not all(_fits(file, entry) for file, entry in listed.items()):
        raise CheckpointError(f"{path}: no list of files; expected name, bytes and sha256 of each; it is damaged")
    return listed


def _fits(file: str, entry: Any) -> bool:
    """Tell whether an entry of a manifest names a plain file."""
    plain = re.fullmatch(r"[A-Za-z0-9_-]{1,60}\.(safetensors|json)", file) is not None
    return plain and isinstance(entry, dict) and isinstance(entry.get("bytes"), int) and isinstance(entry.get("sha256"), str)


def _read_listed(path: Path, entry: Mapping[str, Any]) -> bytes:
    """Return a file's content after its size and digest were compared."""
    size = entry["bytes"]
    if path.name.endswith(".json") and size > LARGEST_JSON:
        raise SafetyError(f"{path}: {size:,} bytes are listed; expected at most {LARGEST_JSON:,}; refused")
    content = _read_file(path, size)
    if len(content) != size:
        raise CheckpointError(f"{path}: {len(content):,} bytes came; expected {size:,}; it is damaged")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(f"{path}: its content does not agree with the manifest; expected it as written; it is damaged")
    return content


def _read_file(path: Path, largest: int) -> bytes:
    """Return the content of a plain file; a link, a folder or a pipe is refused before it is opened.

    Raises:
        CheckpointError: No such file, or no plain one, or one with more than ``largest`` bytes.
    """
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError(f"{path}: no plain file; expected one of a checkpoint; it was replaced")
        if found.st_size > largest:
            raise CheckpointError(f"{path}: {found.st_size:,} bytes came; expected {largest:,}; it is damaged")
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(largest + 1)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); expected a file of a checkpoint; it is gone"
        ) from error


def save(folder: Path, name: str, parts: Mapping[str, Any], keep: int) -> Path:
    """Write a checkpoint, verify it, and then remove older ones but the last ``keep``.

    Args:
        folder: Of the checkpoints of a run.
        name: As `name_of` gives it.
        parts: What it holds.
        keep: How many verified checkpoints stay, at least 1.

    Returns:
        The folder of the checkpoint.

    Raises:
        ResourceError: The disk is full or cannot be written; the older checkpoints are untouched.
    """
    path = folder / name
    if not verifies(path):
        write_parts(path, parts)
        _verified(path)
    forget(folder, keep)
    return path


def forget(folder: Path, keep: int) -> None:
    """Remove the checkpoints of a run but the last ``keep``, and at least one."""
    for old in checkpoints(folder)[max(1, keep) :]:
        files.remove_all(old)


def verifies(path: Path) -> bool:
    """Tell whether a checkpoint is there and whole."""
    try:
        return bool(_verified(path))
    except CheckpointError:
        return False


def sweep(folder: Path) -> None:
    """Remove what a killed writer left; only for who holds the lock of the run."""
    for path in folder.glob(".*.tmp"):
        files.remove_all(path)


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first, whether they are whole or not."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), key=lambda path: path.name, reverse=True)


def newest(folder: Path, warn: Callable[[str], None]) -> Checkpoint:
    """Return the newest checkpoint that verifies.

    Args:
        folder: Of the checkpoints of a run.
        warn: Is told each newer one that does not verify, and why.

    Raises:
        CheckpointError: None verifies; the reason of the newest is told.
        SafetyError: One is refused.
    """
    problems: list[str] = []
    waiting = checkpoints(folder)
    for _ in range(TRIES):
        if not waiting:
            break
        path = waiting.pop(0)
        try:
            found = Checkpoint(path, read_parts(path))
        except CheckpointError as error:
            if path.is_dir():
                problems.append(str(error))
            else:  # removed meanwhile: a newer one was written
                problems, waiting = [], checkpoints(folder)
            continue
        for problem in problems:
            warn(f"{problem}; going back to {path.name}")
        return found
    raise none_of(folder, problems)


def none_of(folder: Path, problems: Sequence[str]) -> CheckpointError:
    """Return the error of a run none of whose checkpoints verifies, with what is wrong with each, newest first."""
    reason = problems[0] if problems else f"{folder}: no checkpoint; expected one at least"
    return CheckpointError(f"{reason}; no checkpoint of this run can be used; train it again into another folder")
