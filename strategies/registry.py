"""Which code a bot may run: built in, installed as an entry point, in a plug-in folder; nothing else.

A configuration names code by text, and anybody who may edit a row writes that text. What a name can reach
is therefore closed: a class that was registered here, an entry point of a package that an administrator
installed, or a file that stands in a plug-in folder. Names are looked for in that order, so nothing can
take the place of what is built in; and a name never becomes a path or a module by itself (see `plugins`).

What is kept and what is not: registered classes stay, because they are part of this process. Plug-ins and
entry points are looked up every time, because a file may be edited while the service runs; `stamps` says
whether one was, and a class of the former content goes on in the engines that were built from it.

An unknown name has a fallback, CustomStrategy with the mixins that the configuration names or, without any,
taking no position; the owner is told. Code that is known and broken has none: a bot that traded
something else than what its owner wrote would be worse than one that stands still.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

import backtrader as bt
from pydantic import ValidationError

from strategies.config import custom_faults
from strategies.custom import CustomStrategy
from strategies.faults import Fault, InvalidConfig, choice_of, shown, shown_unknown
from strategies.field_words import faults_in
from strategies.mixins import BUILT_IN, EntryMixin, ExitMixin
from strategies.plugins import BrokenPlugin, UnknownPlugin, load_class, references_in, stamp_of
from strategies.sections import CustomParameters, LogicConfig, StrategyConfig

GROUP: Final = "onebar.strategies"


class Kind(StrEnum):
    STRATEGY = "strategy"
    ENTRY = "entry mixin"
    EXIT = "exit mixin"


BASES: Final[Mapping[Kind, type]] = {
    Kind.STRATEGY: bt.Strategy,
    Kind.ENTRY: EntryMixin,
    Kind.EXIT: ExitMixin,
}


@dataclass(frozen=True, slots=True)
class Registered:
    """A class that may run, under its name. `origin` is where it came from, in words."""

    kind: Kind
    name: str
    code: type[Any]
    origin: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """The strategy of a bot: a class and its Backtrader parameters. Warnings are for log and owner."""

    code: type[Any]
    parameters: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


class Registry:
    """`plugins` are the folders that plug-ins may come from."""

    def __init__(self, plugins: Sequence[Path] = ()) -> None:
        self._folders = tuple(plugins)
        self._known: dict[tuple[Kind, str], Registered] = {}
        self.register(CustomStrategy)
        for mixin in BUILT_IN:
            self.register(mixin)

    def register(self, code: type[Any], name: str | None = None, origin: str = "built in") -> Registered:
        """Allow a class under its own name or another. Raises ValueError for a name that is taken."""
        kind = _kind_of(code)
        if kind is None:
            bases = ", ".join(base.__name__ for base in BASES.values())
            raise ValueError(f"{code!r} is no subclass of any of {bases}")
        entry = Registered(kind, name or code.__name__, code, origin)
        taken = self._known.setdefault((kind, entry.name), entry)
        if taken.code is not code:
            raise ValueError(f"the {kind} {entry.name} is registered already ({taken.origin})")
        return taken

    def get(self, kind: Kind, name: str) -> Registered:
        """Return what a name stands for. Raises UnknownPlugin, or BrokenPlugin if its code cannot be used."""
        if known := self._known.get((kind, name)):
            return known
        if ":" in name:
            # Not kept: the file may be edited, and its next content is another class.
            return _of_kind(kind, name, load_class(name, self._folders), "plug-in folder")
        for point in entry_points(group=GROUP, name=name):
            return _of_kind(kind, name, _loaded(point), f"entry point {point.value}")
        forms = choice_of([known.name for known in self.list(kind)], name)
        raise UnknownPlugin(shown(name), f"{forms}, or module:Class of a file in a plug-in folder")

    def list(self, kind: Kind | None = None) -> tuple[Registered, ...]:
        """Return what is registered so far, by name; `discover` adds the rest."""
        found = (known for known in self._known.values() if kind is None or known.kind is kind)
        return tuple(sorted(found, key=lambda known: (known.kind, known.name)))

    def discover(self) -> tuple[tuple[Registered, ...], tuple[Fault, ...]]:
        """Load all entry points and plug-in files; return everything usable, and what is broken and why."""
        faults: list[Fault] = []
        for point in entry_points(group=GROUP):
            try:
                self.register(_loaded(point), point.name, f"entry point {point.value}")
            except (UnknownPlugin, ValueError) as exc:
                faults.append(
                    Fault(f"entry point {point.name}", str(exc), "a strategy or mixin, once each name")
                )
        found = []
        for reference, code in references_in(self._folders):
            if isinstance(code, BrokenPlugin):
                faults.append(Fault(reference, code.found, code.allowed))
            elif kind := _kind_of(code):
                found.append(Registered(kind, reference, code, "plug-in folder"))
        return (*self.list(), *found), tuple(faults)

    def faults(self, strategy: StrategyConfig) -> tuple[Fault, ...]:
        """Return what is wrong with a strategy section: unknown or broken code, and its parameters."""
        try:
            code = self.get(Kind.STRATEGY, strategy.type).code
        except UnknownPlugin as exc:
            return (Fault("strategy.type", exc.found, exc.allowed),)
        if code is CustomStrategy:
            return self._logic_faults(strategy)
        return declared_faults(code, strategy.parameters)

    def stamps(self, strategy: StrategyConfig) -> tuple[tuple[str, int, int], ...]:
        """Return path, time and size of the plug-in files that a section names: an edit changes them."""
        logics = (strategy.parameters.get(key) for key in ("entry_logic", "exit_logic"))
        names = (strategy.type, *(logic.get("name") for logic in logics if isinstance(logic, dict)))
        references = (name for name in names if isinstance(name, str) and ":" in name)
        return tuple(stamp_of(name, self._folders) for name in references)

    def resolve(self, strategy: StrategyConfig) -> Resolved:
        """Return what a bot runs. Raises InvalidConfig for anything but an unknown type.

        An unknown type becomes CustomStrategy with the mixins that the configuration names, or, if it names
        none that are valid, without any: it then takes no position of its own.
        """
        try:
            code = self.get(Kind.STRATEGY, strategy.type).code
        except BrokenPlugin as exc:
            raise InvalidConfig((Fault("strategy.type", exc.found, exc.allowed),)) from exc
        except UnknownPlugin as exc:
            return self._fallback(strategy, exc)
        if faults := self.faults(strategy):
            raise InvalidConfig(faults)
        if code is CustomStrategy:
            return Resolved(code, self._custom(strategy))
        return Resolved(code, _as_declared(code, strategy.parameters))

    def _fallback(self, strategy: StrategyConfig, reason: UnknownPlugin) -> Resolved:
        as_custom = strategy.model_copy(update={"type": "CustomStrategy"})
        usable = not self.faults(as_custom)
        does = "with its entry and exit logic" if usable else "without logic, which takes no position"
        warning = f"strategy.type: found {reason.found}; runs CustomStrategy {does}, in its place"
        return Resolved(CustomStrategy, self._custom(as_custom) if usable else {}, (warning,))

    def _logic_faults(self, strategy: StrategyConfig) -> tuple[Fault, ...]:
        if shape := custom_faults(strategy):
            return shape
        parameters = CustomParameters.model_validate(strategy.parameters)
        return (
            *self._mixin_faults(Kind.ENTRY, parameters.entry_logic, "strategy.parameters.entry_logic"),
            *self._mixin_faults(Kind.EXIT, parameters.exit_logic, "strategy.parameters.exit_logic"),
        )

    def _mixin_faults(self, kind: Kind, logic: LogicConfig, path: str) -> tuple[Fault, ...]:
        try:
            mixin = self.get(kind, logic.name).code
        except UnknownPlugin as exc:
            return (Fault(f"{path}.name", exc.found, exc.allowed),)
        params, written = unprefixed(logic.params, mixin)
        twice = tuple(
            Fault(f"{path}.params.{name}", "the parameter twice", f"either {name} or {mixin.prefix}{name}")
            for name in mixin.Parameters.model_fields
            if name in logic.params and mixin.prefix + name in logic.params
        )
        try:
            mixin.Parameters.model_validate(params)
        except ValidationError as exc:
            return (*twice, *faults_in(mixin.Parameters, exc, f"{path}.params.", written))
        return twice

    def _custom(self, strategy: StrategyConfig) -> Mapping[str, Any]:
        parameters = CustomParameters.model_validate(strategy.parameters)
        entry = self.get(Kind.ENTRY, parameters.entry_logic.name).code
        leave = self.get(Kind.EXIT, parameters.exit_logic.name).code
        return {
            "entry": entry,
            "entry_params": unprefixed(parameters.entry_logic.params, entry)[0],
            "exit": leave,
            "exit_params": unprefixed(parameters.exit_logic.params, leave)[0],
        }


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except (Exception, SystemExit) as exc:  # a foreign package may raise anything
        found = f"{point.value}, which raises {type(exc).__name__}: {exc}"
        raise BrokenPlugin(found, "an entry point that can be loaded") from exc


def unprefixed(params: Mapping[str, Any], mixin: type[Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parameters by the mixin's own names, and for a name of its own the one that was written."""
    known = mixin.Parameters.model_fields
    written = {}
    for name in params:
        own = name.removeprefix(mixin.prefix)
        written[own if own in known else name] = name
    return {own: params[name] for own, name in written.items()}, written


def declared_faults(code: type[Any], parameters: Mapping[str, Any]) -> tuple[Fault, ...]:
    """Compare parameters with those that a Backtrader strategy declares, and with its defaults' types."""
    declared = dict(code.params._getitems())  # noqa: SLF001  # Backtrader has no public way to ask
    faults = []
    for name, value in parameters.items():
        path = f"strategy.parameters.{name}"
        if name not in declared:
            faults.append(Fault(path, shown_unknown(value), choice_of(declared, name)))
        elif wanted := _mismatch(declared[name], value):
            faults.append(Fault(path, shown(value), f"{wanted}; the default is {shown(declared[name])}"))
    return tuple(faults)


def _mismatch(default: Any, value: Any) -> str | None:
    """Return what a value would have to be, judged by its default; a default of another kind allows all."""
    for kinds, words in (
        (bool, "true or false"),
        ((int, float), "a number"),
        (str, "text"),
        ((list, tuple), "an array"),
    ):
        if isinstance(default, kinds):
            wrong_flag = isinstance(value, bool) and not isinstance(default, bool)
            return words if wrong_flag or not isinstance(value, kinds) else None
    return None


def _as_declared(code: type[Any], parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    declared = dict(code.params._getitems())  # noqa: SLF001  # Backtrader has no public way to ask
    return {
        name: tuple(value) if isinstance(declared[name], tuple) else value
        for name, value in parameters.items()
    }


def _kind_of(code: object) -> Kind | None:
    if not isinstance(code, type):
        return None
    return next((kind for kind, base in BASES.items() if issubclass(code, base)), None)


def _of_kind(kind: Kind, name: str, code: object, origin: str) -> Registered:
    if not isinstance(code, type) or not issubclass(code, BASES[kind]):
        allowed = f"a subclass of {BASES[kind].__module__.split('.')[0]}'s {BASES[kind].__name__}"
        raise UnknownPlugin(f"{shown(name)}, which is no {kind}", allowed)
    return Registered(kind, name, code, origin)
