"""Children end with the demo, whatever they or it do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from agent.demo.child import ChildProgram

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)
SLEEPER = "print('ready', flush=True); import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


def python(code: str, folder: Path, **more: object) -> ChildProgram:
    return ChildProgram("sleeper", [sys.executable, "-c", code], folder / "log", **more)


async def started(child: ChildProgram) -> None:
    """Wait for the child's first line."""
    assert await child.process.stdout.readline() == b"ready\n"


async def test_leaving_ends_it(tmp_path):
    async with python(SLEEPER, tmp_path, piped=True) as child:
        await started(child)
        assert child.alive
    assert child.process.returncode == -signal.SIGTERM


async def test_one_that_ignores_sigterm_is_killed_at_its_deadline(tmp_path):
    async with python(STUBBORN, tmp_path, piped=True, deadline_s=0.2) as child:
        await started(child)
        begun = time.monotonic()
    assert child.process.returncode == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - begun < 40


async def test_its_obituary_tells_the_exit_status_and_the_last_lines(tmp_path):
    code = "import sys; [print('line', n, file=sys.stderr) for n in range(20)]; sys.exit(7)"
    async with python(code, tmp_path) as child:
        await child.ended()
        died = child.end_error()
    assert died.message.startswith("the sleeper ended (exit status 7)\n  | line 12\n")
    assert died.message.endswith("  | line 19")
    assert died.code == "sleeper-ended"


async def test_its_obituary_names_the_signal(tmp_path):
    async with python("import os; os.kill(os.getpid(), 9)", tmp_path) as child:
        await child.ended()
        assert child.end_error().message == "the sleeper ended (signal SIGKILL)"


async def test_ctrl_c_does_not_reach_it(tmp_path):
    async with python(SLEEPER, tmp_path, piped=True) as child:
        await started(child)
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


async def test_a_program_that_is_not_there_is_in_its_last_lines(tmp_path):
    async with ChildProgram("ghost", ["/nowhere/program"], tmp_path / "log") as child:
        await child.ended()
        assert "FileNotFoundError" in child.end_error().message


ORPHAN_MAKER = """
import asyncio, sys
from pathlib import Path
from agent.demo.child import ChildProgram

async def main():
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    async with ChildProgram("orphan", sleeper, Path(sys.argv[1])) as child:
        print(child.pid, flush=True)
        await child.ended()

asyncio.run(main())
"""


async def test_it_ends_even_when_the_demo_is_killed(tmp_path):
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN_MAKER, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    pid = int(await parent.stdout.readline())
    watched = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, gone.set)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(5):
        await gone.wait()
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)
