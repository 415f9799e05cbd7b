"""Names that a state may use: strings of one byte, and the classes and functions that may be made of it.

A state names classes and functions by text, and only those are found that were there when the engine
was built: Backtrader's own, and what the modules of the participating classes hold. Nothing is
imported for a state.
"""

import builtins
import math
import operator
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final, TypeVar, cast

import backtrader as bt
from backtrader.utils.autodict import AutoDict, AutoDictList, AutoOrderedDict, DotDict

from strategies.plugins import lasting_name

# Order matters: the index of a string is its code in every state of this format version. Append only.
STRINGS: Final = (
    "ref", "broker", "info", "comminfo", "triggered", "_active", "status", "_plimit", "exectype", "size",
    "created", "_limitoffset", "executed", "position", "valid", "dteos", "plen", "pannotated", "params", "p",
    "owner", "data", "price", "pricelimit", "tradeid", "oco", "trailamount", "trailpercent", "parent",
    "transmit", "simulated", "histnotify", "pclose", "exbits", "p1", "p2", "dt", "remsize", "value", "comm",
    "margin", "pnl", "psize", "pprice", "closed", "opened", "closedvalue", "openedvalue", "closedcomm",
    "openedcomm", "price_orig", "adjbase", "upopened", "upclosed", "updt", "datetime", "cash", "_value",
    "_valuemkt", "_valuelever", "_valuemktlever", "_leverage", "_unrealized", "_fundval",  # 64
    "_fundshares", "pnlcomm", "justopened", "isopen", "isclosed", "baropen", "dtopen", "barclose", "dtclose",
    "barlen", "historyon", "history", "commission", "long", "_minperstatus", "_dlens", "_orderspending",
    "_tradespending", "order", "startingcash", "dtcmp", "dtkey", "dtcmp1", "dtkey1", "_sentinel",
    "backtrader.order:BuyOrder", "backtrader.order:SellOrder", "backtrader.order:BuyOrder.params",
    "backtrader.order:SellOrder.params", "backtrader.order:OrderData", "backtrader.order:OrderExecutionBit",
    "backtrader.position:Position", "backtrader.trade:Trade", "backtrader.trade:TradeHistory",
    "backtrader.utils.autodict:AutoOrderedDict", "backtrader.utils.autodict:AutoDict",
    "backtrader.utils.autodict:AutoDictList", "backtrader.utils.autodict:DotDict",
    "collections:OrderedDict", "collections:defaultdict", "queue", "tick_close", "tick_low", "tick_high",
    "tick_open", "tick_volume", "tick_openinterest", "tick_last", "_laststatus", "_dtmaster", "_udtmaster",
    "_when", "_dtwhen", "_dwhen", "_lastcall", "_nexteos", "_curdate", "_curmonth", "_monthmask", "_curweek",
    "_weekmask", "lastwhen", "_nextdteos", "_lasteos", "_lastdteos", "_firstbar", "compcount", "_dlen",
    "_barstack", "_barstash", "bar", "close", "low", "high", "open", "volume", "openinterest", "cheat",
    "_tz", "_closed", "reason", "logic", "positions",
    "pending", "submitted", "_toactivate", "_pchildren",
    "_ocos", "_ocol", "d_credit", "notifs", "orders", "_trades", "opens", "entered", "refused_by", "day",
    "day_entries",
    "day_result", "open_entries", "keepers", "curbuylen", "curselllen",
)  # fmt: skip
CODE_OF_STRING: Final = {text: code for code, text in enumerate(STRINGS)}

PARAMETERS_OF: Final = (bt.order.BuyOrder, bt.order.SellOrder)
SHAPES: Final = {  # attributes in the order in which Backtrader's constructors set them
    bt.order.OrderData: tuple(vars(bt.order.OrderData())),
    bt.order.OrderExecutionBit: tuple(vars(bt.order.OrderExecutionBit())),
    bt.position.Position: tuple(vars(bt.position.Position())),
}
Function = TypeVar("Function", bound=Callable[..., Any])
HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE
FRAMEWORK: Final = ("backtrader.", "strategies.engine.")
LIBRARIES: Final = (builtins, math, operator)  # whose functions a strategy may hold as plain values


def remembered(function: Function) -> Function:
    """Remember what a function of classes returned. Typed: lru_cache does not take `type` for hashable."""
    return cast("Function", lru_cache(maxsize=4096)(function))


def token_of(thing: Any) -> str:
    """Return the name by which states speak of a class or function: it outlives an edit of a plug-in file."""
    return f"{lasting_name(thing.__module__)}:{thing.__qualname__}"


class Names:
    """Classes and functions by token. The first of a name wins: participants before their neighbours."""

    def __init__(self, participants: Iterable[type]) -> None:
        self.classes: dict[str, type] = {}
        self.functions: dict[str, Any] = {}
        self.tokens: dict[type, str] = {}
        self._seen: set[int] = set()
        for cls in PARAMETERS_OF:
            self._name(f"{token_of(cls)}.params", cls.params)
        for cls in (
            AutoOrderedDict,
            AutoDict,
            AutoDictList,
            DotDict,
            OrderedDict,
            defaultdict,
            deque,
            Counter,
        ):
            self._name(token_of(cls), cls)
        for module in (bt.order, bt.position, bt.trade, bt.dataseries):
            self._module(vars(module))
        chosen = list(participants)
        for cls in chosen:
            self._name(token_of(cls), cls)
        for cls in chosen:
            for base in cls.__mro__:
                if not is_backtrader(base) and base is not object:
                    self._neighbours(base)

    def _name(self, token: str, cls: type) -> None:
        if self.classes.setdefault(token, cls) is cls:
            self.tokens.setdefault(cls, token)

    def _module(self, names: dict[str, Any]) -> None:
        for value in list(names.values()):
            self._admit(value)

    def _neighbours(self, cls: type) -> None:
        """Return what the code of a class can reach by name: its module, its own attributes, its closures."""
        if id(cls) in self._seen:
            return
        self._seen.add(id(cls))
        self._name(token_of(cls), cls)
        # The globals of its methods, not sys.modules: a module that was imported anew has other classes.
        homes = [value.__globals__ for value in vars(cls).values() if isinstance(value, FunctionType)]
        if not homes and cls.__module__ in sys.modules:
            homes = [vars(sys.modules[cls.__module__])]
        for home in homes:
            if id(home) not in self._seen:
                self._seen.add(id(home))
                self._module(home)
        for value in list(vars(cls).values()):
            self._admit(value)
            if isinstance(value, FunctionType):
                self._admit_code(value)

    def _admit_code(self, function: FunctionType) -> None:
        for cell in function.__closure__ or ():
            self._admit(content_of(cell))
        for name in function.__code__.co_names:
            self._admit(function.__globals__.get(name))

    def _admit(self, value: Any) -> None:
        if isinstance(value, type):
            if value.__module__ not in {"builtins", "typing"} and token_of(value) not in self.classes:
                self._name(token_of(value), value)
                if not is_backtrader(value):
                    for inner in list(vars(value).values()):
                        if isinstance(inner, type) and inner is not value:
                            self._admit(inner)
        elif isinstance(value, FunctionType):
            self.functions.setdefault(token_of(value), value)

    def token(self, cls: type) -> str | None:
        """Return the name by which a state may speak of a class, None if it may not."""
        found = self.tokens.get(cls)
        if found is None and is_backtrader(cls):
            token = token_of(cls)
            return token if self.find(token) is cls else None
        return found

    def find(self, token: str) -> type | None:
        """Return the class of a token if a state may speak of it. Modules are looked up, not imported."""
        found = self.classes.get(token) or self.classes.get(lasting_name(token))  # as states had it once
        if found is None and token.startswith("backtrader."):
            home, _, name = token.partition(":")
            module = sys.modules.get(home)
            found = vars(module).get(name) if module is not None else None
        return found if isinstance(found, type) else None

    def function(self, token: str) -> Any:
        """Return the function of that token or None. Builtins of three modules are always there."""
        found = self.functions.get(token) or self.functions.get(lasting_name(token))
        if found is None:
            home, _, name = token.partition(":")
            for library in LIBRARIES:
                if library.__name__ == home.lstrip("_"):
                    found = vars(library).get(name)
        return found if isinstance(found, FunctionType | BuiltinFunctionType) else None


@remembered
def is_backtrader(cls: type) -> bool:
    """Whether a class is the library's or the engine's, not the user's."""
    return cls.__module__.startswith(FRAMEWORK)


@remembered
def names_of(participants: tuple[type, ...]) -> Names:
    """Return the names of engines whose objects are of these classes; it never changes once it is made."""
    return Names(participants)


def content_of(cell: Any) -> Any:
    """Return what a closure holds in a cell; None if it holds nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def is_heap(cls: type) -> bool:
    """Whether a class statement made a class: one made in C keeps things where nobody can see them."""
    return bool(cls.__flags__ & HEAP_TYPE)
