"""State that a strategy keeps in its module or in the process is refused: lost, it would change trades."""

import io

import outside
import pytest
from runs import X, bars

from strategies.engine import Engine
from strategies.engine.engine_errors import NotCarriable


def run(strategy):
    engine = Engine(lambda cerebro: cerebro.addstrategy(strategy), X)
    state = engine.initial()
    for bar in bars(5):
        state = engine.step(state, (bar,)).state


WHEN_BUILT = {
    "CounterOfTheModule": "COUNTER in next(), an iterator",
    "DecoratedMethod": "the global 'CACHE' of the module, which remember() changes",
    "FunctionThatBindsAGlobal": "the global 'TOTAL' of the module, which bump() changes",
    "FunctionThatFillsADict": "the global 'CACHE' of the module, which remember() changes",
    "GeneratorOfTheModule": "SQUARES in next(), a generator",
    "NumpyGeneratorOfTheModule": "NUMPYS in next(), a random generator",
    "RandomByName": "gauss in next(), a random generator",
    "RandomObjectOfTheModule": "OWN in next(), a random generator",
    "RandomOfNumpy": "np.random.rand in next(), a random generator",
    "RandomOfTheProcess": "random.random in next(), a random generator",
    "RandomWithinALambda": "random.random in next(), a random generator",
}
WHEN_IT_CHANGES = {
    "ArrayOfTheModule": "the global 'ARRAY' of a module, whose content changes",
    "AttributeOfAnObject": "the global 'BOX' of a module, whose content changes",
    "ClassOfAHelper": "a container in the class that changes",
    "DeepInATable": "of a module, whose content changes",
    "UnderAnotherName": "the global 'CACHE' of a module, whose content changes",
}


@pytest.mark.parametrize("name", WHEN_BUILT)
def test_what_the_code_shows_is_refused_when_the_engine_is_built(name):
    with pytest.raises(NotCarriable) as refusal:
        Engine(lambda cerebro: cerebro.addstrategy(getattr(outside, name)), X)
    assert WHEN_BUILT[name] in str(refusal.value)
    assert "; " in str(refusal.value)  # and what to do instead


@pytest.mark.parametrize("name", WHEN_IT_CHANGES)
def test_what_only_shows_in_use_is_refused_after_the_bar(name):
    with pytest.raises(NotCarriable) as refusal:
        run(getattr(outside, name))
    assert WHEN_IT_CHANGES[name] in str(refusal.value)


def test_a_global_that_is_bound_anew_by_somebody_else_is_refused(monkeypatch):
    engine = Engine(lambda cerebro: cerebro.addstrategy(outside.Carried), X)
    state = engine.initial()
    monkeypatch.setattr(outside, "TABLE", {"weights": [2.0], "by hour": {9: ()}})
    with pytest.raises(NotCarriable, match="the global 'TABLE' of a module, which changes"):
        engine.step(state, (bars(1)[0],))


def test_what_a_library_binds_anew_is_its_own_business(monkeypatch):
    """A test runner or a progress bar exchanges sys.stderr; libraries fill caches of theirs."""
    engine = Engine(lambda cerebro: cerebro.addstrategy(outside.Carried), X)
    state = engine.initial()
    monkeypatch.setattr("sys.stderr", io.StringIO())
    engine.step(state, (bars(1)[0],))


def test_tables_constants_and_generators_of_its_own_are_fine():
    run(outside.Carried)


def test_every_strategy_of_the_module_is_judged():
    strategies = {
        name
        for name, each in vars(outside).items()
        if isinstance(each, type) and issubclass(each, outside.Strategy)
    }
    assert strategies == {*WHEN_BUILT, *WHEN_IT_CHANGES, "Carried", "Strategy"}
