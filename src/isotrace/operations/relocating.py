"""Another folder in place of a checkout: where the code of a recorded run is, once that has been copied.

A run names its code by absolute paths, and the interpreter finds the packages of a checkout by paths as well.
In a process that replays the code of another revision all of them lead into the copy.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

_STANDARD = (BuiltinImporter, FrozenImporter, PathFinder)
_ISOTRACE = str(Path(__file__).parents[1])


@dataclass(frozen=True, slots=True)
class Relocation:
    """From the folder `source` to its copy `target`; the folders `kept`, which lie in `source`, stay: an
    environment with what is installed there, and what is not under version control."""

    source: str
    target: str
    kept: tuple[str, ...] = ()

    def path(self, path: str) -> str:
        """The place of a file or folder of the source in the copy; any other path as it is."""
        for one in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):  # noqa: PTH100  # follows no link
            if any(_is_below(one, folder) for folder in (*self.kept, self.target)):
                return path
            if _is_below(one, self.source):
                return str(Path(self.target, os.path.relpath(one, self.source)))
        return path

    def entry(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """A recorded entry point, a function or a program, with its code in the copy. The arguments of a
        program are what it was given, and stay."""
        moved = dict(entry)
        for name in ("file", "cwd", *(() if entry.get("module") is True else ("target",))):
            if isinstance(entry.get(name), str):
                moved[name] = self.path(entry[name])
        if isinstance(entry.get("program"), dict):
            moved["program"] = self.entry(entry["program"])
        return moved

    def enter(self) -> None:
        """Lets this process find in the copy what it would find in the source, and go on from there."""
        # The copy changes from one moment to the next: compiled files would outlive their sources.
        sys.dont_write_bytecode = True
        folder = self.path(str(Path.cwd()))
        os.chdir(folder if Path(folder).is_dir() else self.target)
        sys.path[:] = list(map(self.path, sys.path))
        if "PYTHONPATH" in os.environ:
            folders = os.environ["PYTHONPATH"].split(os.pathsep)
            os.environ["PYTHONPATH"] = os.pathsep.join(one and self.path(one) for one in folders)
        sys.meta_path[:] = [one if one in _STANDARD else _Moved(one, self) for one in sys.meta_path]
        importlib.invalidate_caches()

    def strays(self) -> list[str]:
        """The modules of this process that came from the source all the same. isotrace itself is always the
        one that was started."""
        files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
        return [
            name
            for name, file in files.items()
            if isinstance(file, str) and not _is_below(file, _ISOTRACE) and self.path(file) != file
        ]


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


class _Moved:
    """A finder as editable installations put one into `sys.meta_path`: what it finds in the source is looked
    for in the copy."""

    def __init__(self, finder: Any, relocation: Relocation) -> None:
        self._finder = finder
        self._relocation = relocation

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """As the finder's own."""
        spec: ModuleSpec | None = self._finder.find_spec(name, path, target)
        if spec is None or not spec.has_location or spec.origin is None:
            return spec
        file = self._relocation.path(spec.origin)
        if file == spec.origin:
            return spec
        folders = spec.submodule_search_locations
        if not Path(file).is_file():
            return None
        moved = None if folders is None else list(map(self._relocation.path, folders))
        return spec_from_file_location(name, file, submodule_search_locations=moved)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)
