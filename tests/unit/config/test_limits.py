"""Limits stand beside the fields that they limit, and one checker refuses what is outside."""

import math
from dataclasses import fields, is_dataclass
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import MISSING

from memgrid.audit.config import AuditConfig
from memgrid.config.limits import Limits, limits_of, plain, refuse_outside_limits, refuse_value
from memgrid.config.schema import CNNConfig, RunConfig
from memgrid.errors import UserError

PANEL = {"kernel_size": 6, "features": [4, 8], "pooling": "mean"}


def leaves(schema, prefix=()):
    """Every field that is no dataclass itself: its path and the field."""
    for setting in fields(schema):
        value = getattr(schema, setting.name)
        if is_dataclass(value):
            yield from leaves(value, (*prefix, setting.name))
        else:
            yield (*prefix, setting.name), setting


def whole(schema):
    """Settings without a missing value: what has limits gets an allowed one."""
    settings = schema()
    for path, setting in leaves(settings):
        value = reduce(getattr, path, settings)
        if isinstance(value, str) and value == MISSING:
            limited = limits_of(setting)
            allowed = "x" if limited is None else limited.choices[0] if limited.choices else limited.least
            setattr(reduce(getattr, path[:-1], settings), path[-1], allowed)
    return settings


CASES = [
    pytest.param(schema, path, limits_of(setting), id=f"{schema.__name__}.{'.'.join(path)}")
    for schema in (RunConfig, AuditConfig)
    for path, setting in leaves(schema())
    if limits_of(setting)
]


def checked(schema, path, value):
    """What the checker says of a value, or None: alone, and, where the field is a list, as its last value."""
    settings = whole(schema)
    group = reduce(getattr, path[:-1], settings)
    several = isinstance(getattr(group, path[-1]), list)
    setattr(group, path[-1], [*getattr(group, path[-1]), value] if several else value)
    try:
        refuse_outside_limits(settings)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("schema", "path", "limited"), CASES)
def test_a_value_below_at_and_above_each_limit(schema, path, limited):
    allowed = list(limited.choices) or [number for number in (limited.least, limited.most) if number is not None]
    refused = ["nonsense", ""] if limited.choices else [math.nan] if limited.product is None else [math.nan, "6", True, []]
    if limited.least is not None:
        refused.append(limited.least - (1 if limited.product or limited.least == 0 else min(1, abs(limited.least) / 2)))
    if limited.above is not None:
        refused.append(limited.above)
        allowed.append(limited.above + 1e-6)
    if limited.most is not None:
        refused += [limited.most + 1, math.inf] if limited.product is None else [limited.most + 1]
    assert allowed
    for value in allowed:
        assert checked(schema, path, value) is None, value
    for value in refused:
        told = checked(schema, path, value)
        assert told is not None, value
        assert told.startswith(f"{'.'.join(path)}={value:{limited.form}}" if limited.form else f"{'.'.join(path)}={value} "), told
        assert "\n" not in told
        numbers = [number for number in (limited.least, limited.most, limited.above) if number is not None]
        assert all(word in told for word in (*limited.choices, *map(plain, numbers))), told


@given(st.floats(-100, 100), st.floats(-50, 0), st.floats(0, 50))
def test_only_what_is_within_is_allowed(value, least, most):
    assert Limits(least=least, most=most).allow(value) == (least <= value <= most)
    assert Limits(above=least).allow(value) == (value > least)
    assert Limits(least=least).allow(value) == (value >= least)
    assert not Limits(least=least, most=most).allow(math.nan)


@pytest.mark.parametrize(
    ("limited", "words"),
    [
        (Limits(least=1), "at least 1"),
        (Limits(least=0, most=0.99), "from 0 to 0.99"),
        (Limits(above=0, most=1), "above 0 and at most 1"),
        (Limits(choices=("a", "b")), "a or b"),
    ],
)
def test_limits_in_words(limited, words):
    assert limited.text() == words


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("kernel_size", [6, "big"], "cnn.kernel_size=[6, 'big'] is not usable: give one value or a list of values, 1 to 16"),
        ("features", True, "cnn.features=True is not usable: give one value or a list of values, 1 to 256"),
        ("pooling", [], "cnn.pooling=[] is not usable: give one value or a list of values, mean or max"),
        ("dropout", 1.0, "cnn.dropout=1.0 is out of range: it must be from 0 to 0.99"),
        ("epochs", 0, "cnn.epochs=0 is too small: it must be at least 1"),
        ("scale", "ln", "cnn.scale=ln is unknown: use raw or log"),
    ],
)
def test_the_sentences_are_those_of_before(name, value, sentence):
    with pytest.raises(UserError) as caught:
        refuse_value(CNNConfig, name, value, "cnn.")
    assert str(caught.value) == sentence


def test_what_has_no_limits_and_what_is_not_given_is_allowed():
    refuse_outside_limits(CNNConfig(**PANEL))
    settings = whole(RunConfig)
    settings.trainer.threads = settings.intervene.heads = settings.intervene.layers_at = None
    refuse_outside_limits(settings)
