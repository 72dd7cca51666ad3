"""The agent alone, with no model: what it takes of memory, and how soon it is there."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from scripts.benchmarks import rig

STARTS = 5
SETTLE_S = 1.0


def measure(work: Path, port: int) -> dict[str, float]:
    """``core_rss_mb``, ``core_pss_mb`` and ``ready_s`` (process start → retained online), medians of a few starts."""
    rss, pss, ready = [], [], []
    for _ in range(STARTS):
        began = time.time()
        with rig.agent(work, port, "") as process:
            ready.append(rig.wait_for(port, "verge/bench/status", "state", "online") - began)
            time.sleep(SETTLE_S)
            memory = _memory(process.pid)
            rss.append(memory["Rss"])
            pss.append(memory["Pss"])
    return {
        "core_rss_mb": round(median(rss), 1),
        "core_pss_mb": round(median(pss), 1),
        "ready_s": round(median(ready), 3),
    }


def _memory(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name.rstrip(":"): int(size) / 1024 for name, size, *_ in (line.split() for line in lines)}
