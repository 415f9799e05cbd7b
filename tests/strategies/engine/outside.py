"""Strategies that keep state outside of their objects: a module like one that somebody might write."""

import itertools
import random
import sys
from random import gauss

import backtrader as bt
import numpy as np


class Box:
    """An object that a module holds."""

    def __init__(self):
        self.count = 0


BOX = Box()
COUNTER = itertools.count()
OWN = random.Random(3)
NUMPYS = np.random.default_rng(3)
CACHE = {}
TABLE = {"weights": [1.0, 2.0], "by hour": {9: (1, 2)}}
ARRAY = np.zeros(3)
TOTAL = 0
SQUARES = (each * each for each in range(9))


def bump():
    global TOTAL  # noqa: PLW0603
    TOTAL += 1


def remember(key):
    CACHE[key] = 1


def twice(function):
    def wrapped(self):
        function(self)
        return function(self)

    return wrapped


class Helper:
    """Made and dropped within a bar; its class stays."""

    seen = []  # noqa: RUF012

    def add(self, value):
        self.seen.append(value)


class Strategy(bt.Strategy):
    """What they have in common: nothing."""

    def __init__(self):
        self.value = 0.0


class AttributeOfAnObject(Strategy):
    def next(self):
        BOX.count += 1


class CounterOfTheModule(Strategy):
    def next(self):
        self.value = next(COUNTER)


class GeneratorOfTheModule(Strategy):
    def next(self):
        self.value = next(SQUARES)


class RandomOfTheProcess(Strategy):
    def next(self):
        self.value = random.random()


class RandomByName(Strategy):
    def next(self):
        self.value = gauss(0, 1)


class RandomWithinALambda(Strategy):
    def next(self):
        self.value = max([3, 4], key=lambda item: item * random.random())


class RandomOfNumpy(Strategy):
    def next(self):
        self.value = np.random.rand()  # noqa: NPY002


class RandomObjectOfTheModule(Strategy):
    def next(self):
        self.value = OWN.random()


class NumpyGeneratorOfTheModule(Strategy):
    def next(self):
        self.value = float(NUMPYS.random())


class FunctionThatBindsAGlobal(Strategy):
    def next(self):
        bump()


class FunctionThatFillsADict(Strategy):
    def next(self):
        remember(len(self))


class DecoratedMethod(Strategy):
    @twice
    def next(self):
        remember(len(self))


class ArrayOfTheModule(Strategy):
    def next(self):
        ARRAY[0] += 1


class UnderAnotherName(Strategy):
    def next(self):
        cache = CACHE
        cache[len(self)] = 1


class DeepInATable(Strategy):
    def next(self):
        weights = TABLE["weights"]
        weights[0] += 1


class ClassOfAHelper(Strategy):
    def next(self):
        Helper().add(len(self))


class Carried(Strategy):
    """Reads tables and constants, has generators of its own, writes to the log: all of that is fine."""

    def __init__(self):
        super().__init__()
        self.random = random.Random(1)
        self.numpy = np.random.default_rng(1)

    def next(self):
        self.value = self.random.random() + random.Random(len(self)).random() + float(self.numpy.random())
        self.value += random.Random(f"bar {len(self)}").random()
        self.value += TABLE["weights"][0] + len(TABLE["by hour"][9])
        print(self.value, file=sys.stderr)
