"""Containers of a user's whose own methods hide what they hold; the state must see the plain content."""

from collections import OrderedDict, deque

import backtrader as bt
from runs import note


class DeafList(list):
    def clear(self):
        pass

    def extend(self, items):
        pass


class BlindDict(dict):
    def items(self):
        return {}.items()

    def values(self):
        return []

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


class BlindOrder(OrderedDict):
    def items(self):
        return {}.items()


class BlindSet(set):
    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0


class DeafDeque(deque):
    def clear(self):
        pass

    def __iter__(self):
        return iter(())


class Keeper(bt.Strategy):
    """Puts the number of each bar into containers of every kind, past their own methods where it has to."""

    def __init__(self):
        self.kept = DeafList()
        self.named = BlindDict()
        self.ordered = BlindOrder()
        self.seen = BlindSet()
        self.last = DeafDeque(maxlen=3)

    def next(self):
        self.kept.append(len(self))
        dict.__setitem__(self.named, str(len(self)), len(self))
        self.ordered[str(len(self))] = len(self)
        OrderedDict.move_to_end(self.ordered, "1", last=len(self) % 2 == 0)
        set.add(self.seen, len(self))
        self.last.append(len(self))
        note(
            list.__len__(self.kept),
            tuple(dict.items(self.named)),
            tuple(OrderedDict.items(self.ordered)),
            tuple(set.__iter__(self.seen)),
            tuple(deque.__iter__(self.last)),
        )
