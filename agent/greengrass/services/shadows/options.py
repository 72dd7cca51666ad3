"""What the configuration of ``aws.greengrass.ShadowManager`` says, with Greengrass's names and defaults.

==========================================  ==================  ================================================
key                                         default             meaning
==========================================  ==================  ================================================
``synchronize.coreThing``                                       the device's own shadows that are synchronised
``synchronize.shadowDocumentsMap``                              those of other things, by thing
``synchronize.shadowDocuments``                                 the same as a list, each with its ``thingName``
``… .classic``                              true                whether the classic shadow is among them
``… .namedShadows``                         none                the named ones
``synchronize.direction``                   both ways           ``betweenDeviceAndCloud``, ``deviceToCloud``,
                                                                ``cloudToDevice``
``strategy.type``                           ``realTime``        or ``periodic``
``strategy.delay``                          300                 seconds between two rounds, if periodic
``rateLimits``
``… .maxOutboundSyncUpdatesPerSecond``      100                 requests to IoT Core
``… .maxTotalLocalRequestsRate``            200                 local requests in a second
``… .maxLocalRequestsPerSecondPerThing``    20                  those for one thing
``shadowDocumentSizeLimitBytes``            8192                of ``desired`` and ``reported``; at most 30720
==========================================  ==================  ================================================

Keys match in any case, and other keys are ignored, as a nucleus does.  Source: AWS's developer guide, "Shadow manager".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from agent.greengrass.catalog import scalars
from agent.greengrass.errors import DeploymentError
from agent.greengrass.services.shadows.document import DEFAULT_BYTES, MAX_BYTES
from agent.greengrass.services.shadows.errors import ShadowRequestError
from agent.greengrass.services.shadows.merging import Direction
from agent.greengrass.services.shadows.names import ShadowKey

__all__ = ["COMPONENT", "ShadowOptions", "options_of"]

COMPONENT: Final = "aws.greengrass.ShadowManager"
_PERIOD_S: Final = 300.0
_MOST: Final = 1000
"""Synchronised shadows: two subscriptions each."""


@dataclass(frozen=True, slots=True)
class ShadowOptions:
    """How shadows are kept here and beside IoT Core."""

    synchronised: tuple[ShadowKey, ...] = ()
    direction: Direction = Direction.BOTH
    period_s: float = 0.0
    """Seconds between two rounds; 0 is at once."""
    outbound_per_s: int = 100
    requests_per_s: int = 200
    requests_per_thing_s: int = 20
    max_bytes: int = DEFAULT_BYTES


def options_of(configuration: Mapping[str, Any], thing: str) -> ShadowOptions:
    """The options in a configuration, for the device that is ``thing``.

    Raises ``DeploymentError`` with code ``COMPONENT_CONFIGURATION_NOT_VALID`` and the path of what cannot be used.
    """
    synchronize = _mapping(configuration, "synchronize", "")
    rates = _mapping(configuration, "rateLimits", "")
    keys = tuple(dict.fromkeys(_shadows(synchronize, thing)))
    if len(keys) > _MOST:
        _refuse("synchronize", f"it names {len(keys)} shadows", f"synchronise at most {_MOST}")
    defaults = ShadowOptions()
    return ShadowOptions(
        keys,
        _direction(synchronize),
        _period(_mapping(configuration, "strategy", "")),
        _rate(rates, "maxOutboundSyncUpdatesPerSecond", defaults.outbound_per_s),
        _rate(rates, "maxTotalLocalRequestsRate", defaults.requests_per_s),
        _rate(rates, "maxLocalRequestsPerSecondPerThing", defaults.requests_per_thing_s),
        _max_bytes(_value(configuration, "shadowDocumentSizeLimitBytes")),
    )


def _shadows(synchronize: Mapping[str, Any], thing: str) -> Iterator[ShadowKey]:
    if _value(synchronize, "coreThing") is not None:
        path = "synchronize.coreThing"
        yield from _of_thing(_mapping(synchronize, "coreThing", "synchronize"), thing, path)
    by_thing = _mapping(synchronize, "shadowDocumentsMap", "synchronize")
    for name in by_thing:
        path = "synchronize.shadowDocumentsMap"
        yield from _of_thing(_mapping(by_thing, name, path), name, f"{path}.{name}")
    listed = _value(synchronize, "shadowDocuments")
    if listed is not None and not isinstance(listed, list):
        _refuse("synchronize.shadowDocuments", f"it is {listed!r}", "write a list of objects")
    for index, one in enumerate(listed or ()):
        path = f"synchronize.shadowDocuments[{index}]"
        if not isinstance(one, Mapping):
            _refuse(path, f"it is {one!r}", "write an object with a thingName")
        yield from _of_thing(one, _value(one, "thingName"), path)


def _of_thing(wanted: Mapping[str, Any], thing: Any, path: str) -> Iterator[ShadowKey]:
    named = _value(wanted, "namedShadows")
    classic = scalars.boolean(value) if (value := _value(wanted, "classic")) is not None else True
    if classic is None:
        _refuse(f"{path}.classic", f"it is {value!r}", "write true or false")
    if named is not None and not isinstance(named, list):
        _refuse(f"{path}.namedShadows", f"it is {named!r}", "write a list of names")
    for name in [*([""] if classic else ()), *(named or ())]:
        if not isinstance(thing, str) or not isinstance(name, str):
            _refuse(path, f"thing {thing!r}, shadow {name!r}", "write both names as texts")
        try:
            yield ShadowKey.of(thing, name)
        except ShadowRequestError as error:
            _refuse(path, f"thing {thing!r}, shadow {name!r}", error.message)


def _direction(synchronize: Mapping[str, Any]) -> Direction:
    value = _value(synchronize, "direction")
    if value is None:
        return Direction.BOTH
    if value not in tuple(Direction):
        _refuse("synchronize.direction", f"it is {value!r}", f"write {', '.join(Direction)}")
    return Direction(value)


def _period(strategy: Mapping[str, Any]) -> float:
    kind = _value(strategy, "type")
    if kind in (None, "realTime"):
        return 0.0
    if kind != "periodic":
        _refuse("strategy.type", f"it is {kind!r}", "write realTime or periodic")
    delay = _value(strategy, "delay")
    seconds = _PERIOD_S if delay is None else scalars.number(delay)
    if seconds is None or seconds < 1:
        _refuse("strategy.delay", f"it is {delay!r}", "write seconds, 1 or more")
    return seconds


def _rate(rates: Mapping[str, Any], key: str, default: int) -> int:
    value = _value(rates, key)
    number = default if value is None else scalars.number(value)
    if number is None or number < 1:
        _refuse(f"rateLimits.{key}", f"it is {value!r}", "write a whole number, 1 or more")
    return int(number)


def _max_bytes(value: Any) -> int:
    number = scalars.number(value) if value is not None else 0
    if number is None or not 0 <= number <= MAX_BYTES:
        _refuse("shadowDocumentSizeLimitBytes", f"it is {value!r}", f"write a number up to {MAX_BYTES}")
    return int(number) or DEFAULT_BYTES


def _mapping(of: Mapping[str, Any], key: str, path: str) -> Mapping[str, Any]:
    value = _value(of, key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        _refuse(f"{path}.{key}" if path else key, f"it is {value!r}", "write an object")
    return value


def _value(of: Mapping[str, Any], key: str) -> Any:
    """The value of a key that is spelt in any case."""
    return of[key] if key in of else next((of[other] for other in of if other.lower() == key.lower()), None)


def _refuse(path: str, what: str, hint: str) -> NoReturn:
    raise DeploymentError(
        f"{COMPONENT}: {path} cannot be used: {what}", hint=hint, code="COMPONENT_CONFIGURATION_NOT_VALID", path=path
    )
