"""One class out of one file of a plug-in folder, and nothing else.

A reference is `module:Class`. The file is `<folder>/<module>.py`, in the first folder that has it; the name
is a plain identifier, so there is no way out of the folder and no package to import instead. Each content
of a file becomes a module of its own, named by the content: an edited file is a new module, the same file
is loaded once, and nobody can import it by accident. Nothing is written next to it.

What outlives an edit (a state) names things by `lasting_name`, by file and class and without the content: a
comment in the file must not make a bot's objects those of a stranger.
"""

import hashlib
import importlib.abc
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

PREFIX: Final = "onebar_plugin_"
CONTENT: Final = re.compile(
    rf"^({PREFIX}\w+)_[0-9a-f]{{16}}(?=:|$)"
)  # what `_module_of` puts behind the file's name
NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
REFERENCE: Final = re.compile(rf"({NAME}):({NAME})")
MODULE_NAME: Final = re.compile(NAME)


class UnknownPlugin(LookupError):
    """There is no such file, or no such class in it. `found` and `allowed` as in a fault."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(f"found {found}, allowed: {allowed}")
        self.found = found
        self.allowed = allowed


class BrokenPlugin(UnknownPlugin):
    """The file is there and cannot be used: it is the owner's to mend, never to be replaced silently."""


class _Source(importlib.abc.SourceLoader):
    """Loads bytes that have been read already, so that what runs is what was hashed."""

    def __init__(self, path: Path, source: bytes, digest: str) -> None:
        self._source = source
        # Not the real path: the source that a traceback or a fingerprint shows is that of these bytes,
        # whatever the file has become since.
        self._name = f"{path}#{digest}"

    def get_filename(self, fullname: str) -> str:
        del fullname
        return self._name

    def get_data(self, path: str | bytes) -> bytes:
        if path != self._name:
            raise FileNotFoundError(path)
        return self._source


def lasting_name(name: str) -> str:
    """Return the name of a module, or `module:thing`, without the content of a plug-in file in it."""
    return CONTENT.sub(r"\1", name) if name.startswith(PREFIX) else name


def load_class(reference: str, folders: Sequence[Path]) -> type[Any]:
    """Return the class that a reference names. Raises UnknownPlugin or BrokenPlugin."""
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise UnknownPlugin(repr(reference), "module:Class, the file's name without .py and a class in it")
    stem, name = match.groups()
    path = _file_of(stem, folders)
    found = getattr(_module_of(path), name, None)
    if not isinstance(found, type):
        classes = [cls.__name__ for cls in _own_classes(_module_of(path))]
        allowed = f"a class of {path.name}: " + (", ".join(classes) or "it has none")
        raise UnknownPlugin(name, allowed)
    return found


def stamp_of(reference: str, folders: Sequence[Path]) -> tuple[str, int, int]:
    """Return path, time (ns) and size of the file that a reference names; zeros while there is none."""
    for folder in folders:
        path = folder / f"{reference.partition(':')[0]}.py"
        try:
            found = path.stat()
        except OSError:
            continue
        return str(path), found.st_mtime_ns, found.st_size
    return reference, 0, 0


def references_in(folders: Sequence[Path]) -> Iterator[tuple[str, type[Any] | BrokenPlugin]]:
    """Load every file of the folders; yield the classes with their references, and broken files with why."""
    seen: set[str] = set()
    for folder in folders:
        for path in sorted(folder.glob("*.py")):
            if path.stem in seen or not MODULE_NAME.fullmatch(path.stem) or not _inside(path, folder):
                continue
            seen.add(path.stem)
            try:
                module = _module_of(path)
            except BrokenPlugin as exc:
                yield path.stem, exc
                continue
            yield from ((f"{path.stem}:{cls.__name__}", cls) for cls in _own_classes(module))


def _file_of(stem: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        path = folder / f"{stem}.py"
        if path.is_file() and _inside(path, folder):
            return path
    looked = ", ".join(map(str, folders)) or "no plug-in folder is configured ([strategies] plugins)"
    raise UnknownPlugin(f"no file {stem}.py", f"a file in: {looked}")


def _inside(path: Path, folder: Path) -> bool:
    # A symbolic link must not lead out of the folder that was allowed.
    return path.resolve().parent == folder.resolve()


def _module_of(path: Path) -> ModuleType:
    try:
        source = path.read_bytes()
    except OSError as exc:
        raise BrokenPlugin(f"{path.name}, unreadable ({exc.strerror})", "a readable file") from exc
    digest = hashlib.blake2b(source, digest_size=8).hexdigest()
    name = f"{PREFIX}{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, _Source(path, source, digest))
    if spec is None or spec.loader is None:
        raise BrokenPlugin(path.name, "a file of Python source")
    module = importlib.util.module_from_spec(spec)
    # Backtrader's metaclasses look a class's module up there while the file still runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:  # the file is the user's: it may raise anything
        del sys.modules[name]
        found = f"{path.name}, which raises {type(exc).__name__}: {exc}"
        raise BrokenPlugin(found, "a file that can be imported on its own") from exc
    return module


def _own_classes(module: ModuleType) -> list[type[Any]]:
    # Backtrader adds classes of its own making (parameters, lines) to the module.
    return [
        thing
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and name == thing.__name__
    ]
