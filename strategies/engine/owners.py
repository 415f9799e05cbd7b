"""Who owns a new object: found by the names of local variables, `self` and `_obj`, of whoever calls."""

import sys
from inspect import CO_OPTIMIZED, isfunction
from typing import Any, Final

import backtrader as bt
from backtrader.linebuffer import LineBuffer
from backtrader.lineroot import LineMultiple, LineRoot
from backtrader.lineseries import LineAlias, Lines

# Between an operation or a delay and whoever asks for it: `self` is a line, an alias, or skipped anyway.
ON_THE_WAY: Final = (
    LineBuffer._makeoperation,
    LineBuffer._makeoperationown,
    LineBuffer.__call__,
    bt.linebuffer.LineDelay,
    LineAlias.__set__,
    Lines.__setitem__,
    LineRoot._operation_stage1,
    LineRoot._operationown_stage1,
    LineRoot._operation,
    LineRoot._operationown,
    LineRoot._roperation,
    *(value for name, value in vars(LineRoot).items() if name.startswith("__") and isfunction(value)),
)
OF_OPERANDS: Final = frozenset(function.__code__ for function in ON_THE_WAY)
TO_FIRST_LINE: Final = LineMultiple._makeoperation.__code__
FROM_OPERAND: Final = LineRoot._operation_stage1.__code__


def owner_of(owned: Any, cls: Any, startlevel: int = 2, skip: Any = None) -> Any:
    """`findowner`: the variables of a frame are copied out once, and not if there is no such name."""
    try:
        frame: Any = sys._getframe(startlevel)
    except ValueError:  # no frame is left
        return None
    if cls is LineMultiple:
        while frame is not None and (frame.f_code in OF_OPERANDS or _hands_on(frame)):
            frame = frame.f_back
    while frame is not None:
        code = frame.f_code
        local = code.co_varnames
        if "self" in local or "_obj" in local or not code.co_flags & CO_OPTIMIZED or _in_cells(code):
            names = frame.f_locals
            for name in ("self", "_obj"):
                found = names.get(name)
                if skip is not found and found is not owned and isinstance(found, cls):
                    return found
        frame = frame.f_back
    return None


def _hands_on(frame: Any) -> bool:
    """Whether an operand of many lines, which `_operation_stage1` has skipped, asks its first line."""
    return frame.f_code is TO_FIRST_LINE and frame.f_back.f_code is FROM_OPERAND


def _in_cells(code: Any) -> bool:
    cells = code.co_cellvars + code.co_freevars
    return "self" in cells or "_obj" in cells
