"""Which version of MQTT to speak, where the configuration leaves it to the broker.

MQTT 5 is tried first.  A broker that does not know it may say so, and is spoken to in 3.1.1 from then on.  Another one
hangs up without an answer; but so does a proxy whose broker is not up yet, and speaking 3.1.1 to a broker that knows 5
loses what 5 has (answers, limits, reasons).  So silence is believed where it is proved: 5 was met by silence, 3.1.1 by
an answer, and 5 by silence again.
"""

from __future__ import annotations

from typing import Literal

from agent.mqtt.limits import MQTT_5, MQTT_311

__all__ = ["VersionChoice"]


class VersionChoice:
    """The version of the next attempt; each attempt's end is told by one of the three methods."""

    def __init__(self, wanted: Literal["5", "3.1.1", "auto"]) -> None:
        self._free = wanted == "auto"
        self._settled = not self._free
        self._old_answers = False
        """3.1.1 was answered after 5 was not."""
        self.version = MQTT_311 if wanted == "3.1.1" else MQTT_5

    def answered(self) -> bool:
        """The broker took the connection; whether to keep it.  Else the next attempt is due at once."""
        if self._settled or self.version == MQTT_5:
            self._old_answers = False
            return True
        self._old_answers = True
        self.version = MQTT_5
        return False

    def refused(self) -> bool:
        """The broker said that it does not know the version; whether the next attempt is due at once."""
        if not self._free or self.version == MQTT_311:
            return False
        self.version, self._settled = MQTT_311, True
        return True

    def met_silence(self) -> bool:
        """The broker hung up without an answer; whether the next attempt is due at once."""
        if not self._free:
            return False
        if self.version == MQTT_5:
            self.version, self._settled = MQTT_311, self._old_answers
            return True
        self.version, self._settled, self._old_answers = MQTT_5, False, False
        return False
