from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.streams import SnapshotOptions
from agent.results.result import Ulids
from agent.results.snapshots import SnapshotFolder, SnapshotPace
from tests.results.made_results import TEXT, result

IDS = Ulids()
JPEG = b"\xff\xd8 a picture \xff\xd9"


def shot(camera="line-3"):
    return result(id=IDS.new(), camera=camera)


@given(st.floats(0.1, 50), st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), max_size=40))
def test_a_camera_is_never_drawn_twice_within_its_interval_and_always_when_it_is_due(rate, steps):
    pace = SnapshotPace(SnapshotOptions(max_rate_hz=rate))
    last = {}
    now = 0.0
    for camera, step in steps:
        now += step
        due = camera not in last or now - last[camera] >= 1 / rate
        assert pace.wanted(camera, now) is due
        if due:
            last[camera] = now


def test_a_turn_that_is_given_back_is_the_cameras_next_frames():
    pace = SnapshotPace(SnapshotOptions(max_rate_hz=1))
    assert pace.wanted("a", 0.0)
    assert pace.wanted("b", 0.0)
    pace.give_back("a")
    assert (pace.wanted("a", 0.1), pace.wanted("b", 0.1)) == (True, False)


def test_a_picture_is_kept_under_its_results_id_and_camera(tmp_path):
    made = shot("hall/7")
    path = SnapshotFolder(tmp_path / "new", 3).write(JPEG, made)
    assert path == tmp_path / "new" / f"{made.id}-hall_7.jpg"
    assert path.read_bytes() == JPEG


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.lists(st.booleans(), max_size=12))
def test_the_folder_holds_the_newest_pictures_across_restarts(tmp_path_factory, keep, restarts):
    where = tmp_path_factory.mktemp("shots")
    folder = SnapshotFolder(where, keep)
    written = []
    for restart in restarts:
        if restart:
            folder = SnapshotFolder(where, keep)
        written.append(folder.write(JPEG, shot()).name)
        assert sorted(path.name for path in where.iterdir()) == written[-keep:]


def test_a_smaller_bound_holds_from_the_first_picture_on(tmp_path):
    many = SnapshotFolder(tmp_path, 5)
    for _ in range(5):
        many.write(JPEG, shot())
    newest = SnapshotFolder(tmp_path, 2).write(JPEG, shot())
    assert len(list(tmp_path.iterdir())) == 2
    assert newest.exists()


def test_other_peoples_files_are_never_touched(tmp_path):
    for name in ("holiday.jpg", "notes.part", "01-short.jpg"):
        (tmp_path / name).touch()
    folder = SnapshotFolder(tmp_path, 1)
    folder.write(JPEG, shot())
    folder.write(JPEG, shot())
    assert {path.name for path in tmp_path.iterdir()} >= {"holiday.jpg", "notes.part", "01-short.jpg"}
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_power_cut_left_half_written_is_removed(tmp_path):
    half = tmp_path / f"{IDS.new()}-line-3.part"
    half.write_bytes(JPEG[:4])
    SnapshotFolder(tmp_path, 5).write(JPEG, shot())
    assert not half.exists()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_picture_the_disk_has_no_room_for_leaves_nothing_behind(tmp_path, full_after):
    folder = SnapshotFolder(tmp_path, 5)
    with full_after(100):
        assert folder.write(b"x" * 101, shot()) is None
        assert folder.write(b"x" * 100, shot()) is not None
    assert [path.suffix for path in tmp_path.iterdir()] == [".jpg"]
    assert folder.lost == {"disk-error": 1}


def test_a_name_in_any_script_makes_a_file_name_that_fits(tmp_path):
    assert SnapshotFolder(tmp_path, 1).write(JPEG, shot("カメラ" * 80)).exists()


@given(TEXT)
@settings(max_examples=30, deadline=None)
def test_no_cameras_name_leads_out_of_the_folder(tmp_path_factory, camera):
    where = tmp_path_factory.mktemp("shots")
    folder = SnapshotFolder(where, 1)
    assert folder.write(JPEG, shot(f"../../{camera}" * 40)).parent == where
    assert SnapshotFolder(where, 1).write(JPEG, shot(camera)).exists()
    assert len(list(where.iterdir())) == 1, "the restarted folder knew the first picture as its own"


def test_a_folder_that_cannot_be_written_is_counted_and_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    folder = SnapshotFolder(tmp_path / "file" / "shots", 3)
    assert folder.write(JPEG, shot()) is None
    assert folder.write(JPEG, shot()) is None
    assert folder.lost == {"disk-error": 2}
    assert len(caplog.records) == 1


def test_a_folder_that_someone_removed_is_made_again(tmp_path):
    folder = SnapshotFolder(tmp_path / "shots", 3)
    first = folder.write(JPEG, shot())
    first.unlink()
    first.parent.rmdir()
    assert folder.write(JPEG, shot()).exists()
    assert folder.lost == {}


@pytest.mark.parametrize("count", [1, 3])
def test_only_the_bound_is_kept_even_if_someone_else_removed_some(tmp_path, count):
    folder = SnapshotFolder(tmp_path, count)
    folder.write(JPEG, shot()).unlink()
    for _ in range(count):
        folder.write(JPEG, shot())
    assert len(list(tmp_path.iterdir())) == count
