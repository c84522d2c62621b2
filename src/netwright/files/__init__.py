"""The only writer of the product: whole files, folders born by one rename, growing lines, maps, locks, digests."""

from netwright.files.claims import CLAIMS, Worker, at_work, note_death
from netwright.files.digests import digest_bytes, digest_file
from netwright.files.lines import LineFile, Mark, cut_back
from netwright.files.locks import Lock, break_lock_elsewhere, break_lock_of, holder_of, process_name
from netwright.files.maps import born_array, mapped, off_memory
from netwright.files.reading import read_json, refuse_no_file
from netwright.files.waiting import waited
from netwright.files.whole import (
    born,
    copy_file,
    make_folder,
    move,
    refuse_existing,
    remove_all,
    remove_dead,
    remove_stale,
    remove_unfinished,
    replaced,
    room,
    temporary_name,
    write_arrays,
    write_bytes,
    write_json,
    write_parts,
    write_text,
)

__all__ = [
    "CLAIMS",
    "LineFile",
    "Lock",
    "Mark",
    "Worker",
    "at_work",
    "born",
    "born_array",
    "break_lock_elsewhere",
    "break_lock_of",
    "process_name",
    "copy_file",
    "cut_back",
    "digest_bytes",
    "digest_file",
    "holder_of",
    "make_folder",
    "mapped",
    "move",
    "note_death",
    "off_memory",
    "read_json",
    "refuse_existing",
    "refuse_no_file",
    "remove_all",
    "remove_dead",
    "remove_stale",
    "remove_unfinished",
    "replaced",
    "room",
    "temporary_name",
    "waited",
    "write_arrays",
    "write_bytes",
    "write_json",
    "write_parts",
    "write_text",
]
