"""The one door to inference, with real worker processes that fail in every way a model can."""

from __future__ import annotations

import asyncio
import errno
import mmap
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.config.models import ModelOptions
from agent.config.streams import FrameLimits
from agent.errors import BackendUnavailableError, FrameError, ModelRefusedError, VergeError, WorkerLostError
from agent.frames.recognise import recognise
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import SAMPLES, resolve
from agent.inference.plane import InferencePlane
from agent.inference.predictions import Classification
from agent.inference.values import PoolState, PoolStatus, Snapshot
from tests.support import unruly
from tests.support.until import until


@asynccontextmanager
async def plane_in(folder: Path, seen: list[PoolStatus] | None = None) -> AsyncIterator[InferencePlane]:
    async with asyncio.TaskGroup() as tasks:
        told = [] if seen is None else seen
        async with InferencePlane(
            tasks, folder / "quarantine", changed=lambda _name, status: told.append(status)
        ) as plane:
            yield plane


def quarantined(folder: Path) -> list[Path]:
    return sorted((folder / "quarantine").glob("*")) if (folder / "quarantine").exists() else []


async def load_timed(plane: InferencePlane, folder: Path, name: str = "m") -> float:
    """Load a model; how long that takes on this machine at this moment is what limits are measured by."""
    began = asyncio.get_running_loop().time()
    await plane.load(name, unruly.spec(folder))
    return asyncio.get_running_loop().time() - began


async def test_a_loaded_model_says_what_it_is_and_answers(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load("m", unruly.spec(tmp_path))
        answer = await plane.infer("m", unruly.picture("answer"))
    assert (metadata.backend, metadata.task, metadata.labels) == ("unruly 1", "image-classification", 3)
    assert metadata.digest == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert answer.predictions[0] == Classification("fine", 1, pytest.approx(0.7))
    assert (answer.width, answer.height) == (16, 16)
    assert set(answer.timing_ms) == {"decode", "preprocess", "infer", "postprocess"}


async def test_the_shipped_classifier_sees_the_cat(tmp_path: Path) -> None:
    data = (SAMPLES.parent / "images" / "chelsea.jpg").read_bytes()
    async with plane_in(tmp_path) as plane:
        await plane.load("m", resolve(ModelOptions(source="classifier"), tmp_path))
        answer = await plane.infer("m", recognise(data, None, FrameLimits()))
    assert (answer.predictions[0].label, answer.predictions[0].label_id) == ("Egyptian cat", 285)


async def test_an_annotated_picture_comes_back_when_it_is_asked_for(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        plain = await plane.infer("m", unruly.picture("answer"))
        drawn = await plane.infer("m", unruly.picture("answer"), snapshot=Snapshot())
    assert plain.snapshot == b""
    assert drawn.snapshot.startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("cues", "options", "error", "code"),
    [
        ("broken", {}, ModelRefusedError, "model-broken"),
        ("die", {}, WorkerLostError, "worker-crashed"),
        ("", {"backend": "unruly:Nothing"}, BackendUnavailableError, "backend-unavailable"),
        ("", {"backend": "litrt"}, BackendUnavailableError, "backend-unknown"),
        ("", {"task": "image-clasification"}, BackendUnavailableError, "task-unknown"),
        ("", {"interpreter": "/nowhere/python"}, ModelRefusedError, "interpreter-missing"),
        ("", {"options": {"top_q": 1}}, ModelRefusedError, "options-wrong"),
    ],
)
async def test_a_model_that_cannot_be_loaded_is_refused_with_the_reason(
    tmp_path: Path, cues: str, options: dict, error: type[VergeError], code: str
) -> None:
    async with plane_in(tmp_path) as plane:
        with pytest.raises(error) as refused:
            await plane.load("m", unruly.spec(tmp_path, cues, **options))
        assert plane.models == ()
    assert refused.value.code == code


async def test_the_death_of_a_loading_worker_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        with pytest.raises(WorkerLostError, match="killed by SIGABRT; the runtime gave up"):
            await plane.load("m", unruly.spec(tmp_path, "die"))


async def test_a_name_is_loaded_once(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        with pytest.raises(ModelRefusedError, match="loaded already"):
            await plane.load("m", unruly.spec(tmp_path))


async def test_an_unknown_model_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("classifier", unruly.spec(tmp_path))
        with pytest.raises(ModelRefusedError, match="did you mean classifier"):
            await plane.infer("clasifier", unruly.picture("answer"))


async def test_an_exception_in_the_network_fails_its_picture_and_nothing_else(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        with pytest.raises(ModelRefusedError, match="the network did not like it") as refused:
            await plane.infer("m", unruly.picture("raise"))
        await plane.infer("m", unruly.picture("answer"))
        assert plane.status("m").restarts == 0
    assert refused.value.code == "model-failed"


async def test_running_out_of_memory_fails_its_picture_and_nothing_else(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, memory_mb=64))
        with pytest.raises(ModelRefusedError) as refused:
            await plane.infer("m", unruly.picture("hungry"))
        await plane.infer("m", unruly.picture("answer"))
    assert refused.value.code == "out-of-memory"


async def test_what_a_model_prints_disturbs_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, "print"))
        answer = await plane.infer("m", unruly.picture("print"))
        assert answer.predictions
    assert capfd.readouterr() == ("", "")


async def test_a_crash_costs_its_picture_and_the_next_is_answered_within_a_second(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with plane_in(tmp_path) as plane:
        before_s = await load_timed(plane, tmp_path)
        crashing = asyncio.create_task(plane.infer("m", unruly.picture("crash"), label="camera-7"))
        await until(lambda: plane.status("m").restarts == 1)
        died = loop.time()
        await plane.infer("m", unruly.picture("answer"))
        waited = loop.time() - died
        with pytest.raises(WorkerLostError) as lost:
            await crashing
        assert plane.status("m").restarts == 2
        start_s = max(before_s, await load_timed(plane, tmp_path, "again"))
    assert waited < max(1.0, 3 * start_s)
    assert lost.value.code == "worker-crashed"
    assert [path.name.split("-")[:2] for path in quarantined(tmp_path)] == [["camera", "7"]]


async def test_the_reason_of_a_loss_is_the_signal_or_the_status(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        with pytest.raises(WorkerLostError, match="exited with status 3"):
            await plane.infer("m", unruly.picture("exit"))
        assert "exited with status 3" in plane.status("m").reason
        with pytest.raises(WorkerLostError, match="killed by SIGSEGV"):
            await plane.infer("m", unruly.picture("crash"))


async def test_a_picture_behind_a_crashing_one_is_innocent_and_answered(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        cues = ("crash", "answer", "answer", "answer")
        outcomes = await asyncio.gather(
            *(plane.infer("m", unruly.picture(cue)) for cue in cues), return_exceptions=True
        )
    assert isinstance(outcomes[0], WorkerLostError)
    assert all(outcome.predictions for outcome in outcomes[1:])


async def test_a_worker_killed_over_an_innocent_picture_answers_it_in_the_end(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, backend_options={"slow_s": 0.3}))
        waiting = asyncio.create_task(plane.infer("m", unruly.picture("slow")))
        (worker,) = children("agent/inference/runtime")
        os.kill(worker, signal.SIGKILL)
        assert (await waiting).predictions
        assert plane.status("m").restarts == 1


async def test_the_bytes_that_ended_two_workers_are_refused_before_a_worker_sees_them(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        with pytest.raises(WorkerLostError):
            await plane.infer("m", unruly.picture("crash"))
        before = plane.status("m").restarts
        with pytest.raises(FrameError) as refused:
            await plane.infer("m", unruly.picture("crash"))
        assert (await plane.infer("m", unruly.picture("answer", 1))).predictions
        assert plane.status("m").restarts == before == 2
    assert refused.value.code == "quarantined"


async def test_poison_between_good_pictures_never_makes_the_model_broken(tmp_path: Path) -> None:
    seen: list[PoolStatus] = []
    async with plane_in(tmp_path, seen) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        for number in range(5):
            with pytest.raises(WorkerLostError):
                await plane.infer("m", unruly.picture("crash", number))
            assert (await plane.infer("m", unruly.picture("answer", number))).predictions
    assert len([status for status in seen if status.state is PoolState.BROKEN]) == 0
    assert seen[-1].restarts == 10


async def test_a_worker_that_is_killed_again_and_again_is_back_at_once_while_pictures_are_answered(
    tmp_path: Path,
) -> None:
    seen: list[PoolStatus] = []
    async with plane_in(tmp_path, seen) as plane:
        start_s = await load_timed(plane, tmp_path)
        for number in range(12):
            began = asyncio.get_running_loop().time()
            assert (await plane.infer("m", unruly.picture("answer", number))).predictions
            assert asyncio.get_running_loop().time() - began < 5.0 + 3 * start_s
            (worker,) = children("agent/inference/runtime")
            os.kill(worker, signal.SIGKILL)
            await until(lambda deaths=number: plane.status("m").restarts > deaths)
    assert not [status for status in seen if status.state is PoolState.BROKEN]


async def test_a_suspect_is_not_tried_on_the_last_worker_that_is_up(tmp_path: Path) -> None:
    seen: list[PoolStatus] = []
    async with plane_in(tmp_path, seen) as plane:
        await plane.load("m", unruly.spec(tmp_path, workers=2))
        with pytest.raises(WorkerLostError):
            await plane.infer("m", unruly.picture("crash"))
        await until(lambda: plane.status("m").workers == 2)
    assert seen[-1].restarts == 2
    assert min(status.workers for status in seen if status.state is PoolState.RUNNING and status.restarts) == 1


async def test_unloading_answers_a_picture_that_waits_for_its_second_try_first(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, workers=2, backend_options={"slow_s": 0.3}))
        waiting = asyncio.create_task(plane.infer("m", unruly.picture("slow")))
        await asyncio.sleep(0)
        for worker in children("agent/inference/runtime"):
            os.kill(worker, signal.SIGKILL)
        await until(lambda: plane.status("m").restarts == 2)
        await plane.unload("m")
        assert (await waiting).predictions


async def test_a_suspect_is_tried_though_there_is_always_other_work(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, backend_options={"slow_s": 0.02}))
        crashing = asyncio.create_task(plane.infer("m", unruly.picture("crash")))

        async def busy() -> None:
            number = 0
            while not crashing.done():
                number += 1
                await plane.infer("m", unruly.picture("slow", number))

        await asyncio.wait_for(asyncio.gather(*(busy() for _ in range(4))), 30)
        with pytest.raises(WorkerLostError, match="two workers were lost"):
            await crashing


async def test_a_model_that_is_slower_than_the_least_deadline_answers(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, deadline_s=0.2, backend_options={"every_s": 0.5}))
        assert (await plane.infer("m", unruly.picture("answer"))).predictions
        assert plane.status("m").restarts == 0


async def test_a_model_loaded_for_itself_takes_as_long_as_it_takes(tmp_path: Path) -> None:
    spec = unruly.spec(tmp_path, deadline_s=0.2, backend_options={"slow_s": 0.7})
    async with loaded(spec) as (plane, _):
        assert (await plane.infer(MODEL, unruly.picture("slow"))).predictions
        assert plane.status(MODEL).restarts == 0


async def test_a_hung_worker_is_replaced_within_two_and_a_half_seconds(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with plane_in(tmp_path) as plane:
        before_s = await load_timed(plane, tmp_path)
        began = loop.time()
        hanging = asyncio.create_task(plane.infer("m", unruly.picture("hang")))
        await asyncio.sleep(0)
        await plane.infer("m", unruly.picture("answer"))
        waited = loop.time() - began
        with pytest.raises(WorkerLostError) as lost:
            await hanging
        assert "no answer within 2.0 s" in plane.status("m").reason
        start_s = max(before_s, await load_timed(plane, tmp_path, "again"))
    assert waited < max(2.5, 2.0 + 3 * start_s)
    assert lost.value.code == "worker-hung"


async def test_a_slow_worker_holds_no_second_picture_that_would_be_old_before_its_turn(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, backend_options={"every_s": 0.8}))
        worker = plane._find("m").pool._workers[0]
        asked = [asyncio.create_task(plane.infer("m", unruly.picture("answer", number))) for number in range(3)]
        await asyncio.sleep(0)
        assert len(worker.requests) == 1
        assert all(answer.predictions for answer in await asyncio.gather(*asked))


async def test_a_model_that_gets_on_with_loading_may_take_longer_than_the_limit(tmp_path: Path) -> None:
    spec = unruly.spec(
        tmp_path, load_timeout_s=5.0, backend_options={"every_s": 1.5}, input={"tile": {"columns": 4, "rows": 1}}
    )
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load("m", spec)
    assert metadata.load_ms > 7_000


async def test_a_model_that_does_not_get_on_with_loading_is_given_up(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        with pytest.raises(WorkerLostError, match="was not loaded within 1 s") as lost:
            await plane.load("m", unruly.spec(tmp_path, "linger", load_timeout_s=1.0))
    assert lost.value.code == "load-timeout"


async def test_a_slow_worker_that_answers_after_all_is_kept(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, deadline_s=5.0, backend_options={"slow_s": 2.7}))
        answer = await plane.infer("m", unruly.picture("slow"))
        assert answer.predictions
        await until(lambda: len(children("agent/inference/runtime")) == 1)
        assert plane.status("m").restarts == 0


async def test_workers_that_die_too_quickly_make_the_model_broken_and_visible(tmp_path: Path) -> None:
    seen: list[PoolStatus] = []
    async with plane_in(tmp_path, seen) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        outcomes = await asyncio.gather(
            *(plane.infer("m", unruly.picture("crash", number)) for number in range(3)), return_exceptions=True
        )
        assert all(isinstance(outcome, WorkerLostError) for outcome in outcomes)
        await until(lambda: plane.status("m").state is PoolState.BROKEN)
    assert seen[0].state is PoolState.RUNNING
    assert seen[-1].state is PoolState.STOPPED


async def test_a_model_that_vanishes_from_the_disk_is_broken_with_the_reason(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        (tmp_path / "model.unruly").unlink()
        crashing = asyncio.create_task(plane.infer("m", unruly.picture("crash")))
        await until(lambda: plane.status("m").state is PoolState.BROKEN)
        assert "there is no model at" in plane.status("m").reason
        with pytest.raises(WorkerLostError, match="there is no model at"):
            await crashing


async def test_nobody_waits_for_a_broken_model(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        (tmp_path / "model.unruly").unlink()
        cues = ("crash", *["answer"] * 5)
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(
                *(plane.infer("m", unruly.picture(cue)) for cue in cues), return_exceptions=True
            )
            with pytest.raises(WorkerLostError) as refused:
                await plane.infer("m", unruly.picture("answer"))
        assert plane.status("m").state is PoolState.BROKEN
    assert {outcome.code for outcome in outcomes} == {refused.value.code} == {"model-broken"}


@pytest.mark.parametrize(
    ("module", "call", "number"),
    [
        (socket, "socketpair", errno.EMFILE),
        (os, "memfd_create", errno.ENFILE),
        (mmap, "mmap", errno.ENOMEM),
        (subprocess.Popen, "_execute_child", errno.EAGAIN),
    ],
)
async def test_a_shortage_while_a_worker_is_replaced_is_outlived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, call: str, number: int
) -> None:
    real, failed = getattr(module, call), []

    def short(*arguments: Any, **options: Any) -> Any:
        if failed:
            return real(*arguments, **options)
        failed.append(len(os.listdir("/proc/self/fd")))
        raise OSError(number, os.strerror(number))

    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(module, call, short)
        with pytest.raises(WorkerLostError):
            await plane.infer("m", unruly.picture("exit"))
        assert failed
        assert (await plane.infer("m", unruly.picture("answer"))).predictions
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


async def test_a_shortage_while_a_model_is_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_arguments: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with plane_in(tmp_path) as plane:
        monkeypatch.setattr(socket, "socketpair", short)
        with pytest.raises(WorkerLostError) as lost:
            await plane.load("m", unruly.spec(tmp_path))
        assert plane.models == ()
    assert lost.value.code == "worker-start"


async def test_a_worker_whose_child_outlives_it_is_noticed_and_replaced(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with plane_in(tmp_path) as plane:
        # The deadline is not what notices it.
        await plane.load("m", unruly.spec(tmp_path, deadline_s=60.0))
        began = loop.time()
        with pytest.raises(WorkerLostError, match="exited with status 4"):
            await plane.infer("m", unruly.picture("orphan"))
        assert (await plane.infer("m", unruly.picture("answer"))).predictions
    assert loop.time() - began < 40.0


async def test_unloading_lets_a_slow_worker_answer_what_it_holds(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, backend_options={"slow_s": 1.2}))
        asked = [asyncio.create_task(plane.infer("m", unruly.picture("slow"))) for _ in range(3)]
        await asyncio.sleep(0)
        await plane.unload("m")
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert children("agent/inference/runtime") == []
    assert [getattr(outcome, "code", "answered") for outcome in outcomes] == ["answered", "answered", "model-unloaded"]


async def test_unloading_does_not_wait_for_a_hung_worker_for_ever(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        asked = [asyncio.create_task(plane.infer("m", unruly.picture("hang"))) for _ in range(2)]
        await asyncio.sleep(0)
        began = loop.time()
        await plane.unload("m")
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert loop.time() - began < 30.0  # it hangs for 60 s
    assert {outcome.code for outcome in outcomes} == {"model-unloaded"}


async def test_leaving_waits_for_no_picture_that_its_stream_has_waited_for_already(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, deadline_s=60.0))
        hanging = asyncio.create_task(plane.infer("m", unruly.picture("hang")))
        await asyncio.sleep(0.2)
        began = loop.time()
    assert loop.time() - began < 5.0
    with pytest.raises(WorkerLostError):
        await hanging


async def test_a_revived_model_that_cannot_be_loaded_is_there_and_tried_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with plane_in(tmp_path) as plane:
        await plane.revive("m", unruly.spec(tmp_path, f"gate {gate}", workers=2))
        assert plane.status("m").state in {PoolState.BACKOFF, PoolState.BROKEN}
        assert "gave up" in plane.status("m").reason
        with pytest.raises(WorkerLostError):
            plane.metadata("m")
        gate.unlink()
        assert (await plane.infer("m", unruly.picture("answer"))).predictions
        assert plane.metadata("m").version == plane.status("m").metadata.version


async def test_unloading_does_not_wait_for_a_stand_in_to_load(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, deadline_s=6.0, backend_options={"slow_s": 3.5}))
        (tmp_path / "model.unruly").write_text("linger")
        asked = asyncio.create_task(plane.infer("m", unruly.picture("slow")))
        await until(lambda: len(children("agent/inference/runtime")) == 2)
        began = loop.time()
        await plane.unload("m")
        assert children("agent/inference/runtime") == []
        assert (await asked).predictions
    assert loop.time() - began < 20.0  # loading takes 30 s


async def test_a_worker_lost_just_after_its_stand_in_was_dismissed_is_noticed(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, deadline_s=6.0, backend_options={"slow_s": 3.5}))
        (worker,) = children("agent/inference/runtime")
        (tmp_path / "model.unruly").write_text("linger")
        asked = asyncio.create_task(plane.infer("m", unruly.picture("slow")))
        await until(lambda: len(children("agent/inference/runtime")) == 2)
        assert (await asked).predictions
        (tmp_path / "model.unruly").write_text("")
        os.kill(worker, signal.SIGKILL)
        await until(lambda: plane.status("m").restarts == 1)
        assert (await plane.infer("m", unruly.picture("answer"))).predictions


async def test_two_workers_share_the_work(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, workers=2, backend_options={"slow_s": 1.0}))
        began = loop.time()
        await asyncio.gather(*(plane.infer("m", unruly.picture("slow")) for _ in range(4)))
        assert loop.time() - began < 4 * 1.0
        assert plane.status("m").workers == 2


async def test_unloading_ends_the_workers_and_finishes_what_waited(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path, backend_options={"slow_s": 0.1}))
        asked = [asyncio.create_task(plane.infer("m", unruly.picture("slow"))) for _ in range(6)]
        await asyncio.sleep(0)
        await plane.unload("m")
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert plane.models == ()
        assert children("agent/inference/runtime") == []
    held, waiting = outcomes[:2], outcomes[2:]
    assert all(outcome.predictions for outcome in held)
    assert {outcome.code for outcome in waiting} == {"model-unloaded"}


async def test_more_requests_than_may_wait_are_refused(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        asked = [asyncio.create_task(plane.infer("m", unruly.picture("answer"))) for _ in range(100)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    codes = [getattr(outcome, "code", "answered") for outcome in outcomes]
    assert set(codes) == {"answered", "busy"}
    assert codes.count("answered") >= 64


async def test_the_agents_own_settings_do_not_reach_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERGE_TRANSPORTS__LOCAL__PASSWORD", "secret")
    monkeypatch.setenv("HARMLESS", "1")
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        (worker,) = children("agent/inference/runtime")
        environment = Path(f"/proc/{worker}/environ").read_bytes()
    assert b"HARMLESS=1" in environment
    assert b"secret" not in environment


def children(part: str) -> list[int]:
    """This process's children whose command line has the part."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if parent == os.getpid() and part in command:
                found.append(int(entry.name))
    return found


def offspring() -> set[int]:
    """The processes that this one started and that run."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in listed.split()}


async def test_a_model_unloaded_at_once_leaves_no_worker(tmp_path: Path) -> None:
    before = offspring()
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        await plane.unload("m")
        await until(lambda: offspring() <= before)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2, 0.6])
async def test_a_load_that_is_cancelled_midway_leaves_no_worker(tmp_path: Path, after_s: float) -> None:
    before = offspring()
    async with plane_in(tmp_path) as plane:
        loading = asyncio.create_task(plane.load("m", unruly.spec(tmp_path, workers=3)))
        await asyncio.wait({loading}, timeout=after_s)
        loading.cancel()
        await asyncio.wait({loading})
        if "m" in plane.models:
            await plane.unload("m")
        await until(lambda: offspring() <= before)


async def test_a_request_that_nobody_waits_for_any_more_takes_no_place_and_no_turn(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", unruly.spec(tmp_path))
        asked = [asyncio.create_task(plane.infer("m", unruly.picture("slow", number))) for number in range(60)]
        await asyncio.sleep(0)  # each is in the queue
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        waiting = plane._models["m"].requests._waiting
        assert len(waiting) == 0
        assert (await plane.infer("m", unruly.picture("answer"))).predictions
