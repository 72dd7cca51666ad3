from __future__ import annotations

import json
import logging
import os
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.streams import FileSinkOptions
from agent.errors import ConfigError, NotConnectedError, PublishError
from agent.inference.predictions import Anomaly, Text
from agent.results.sinks import FileSink, LogSink, TopicSink
from tests.results.made_results import TEXT, prediction, result


class Bus:
    """Takes messages as a transport does."""

    def __init__(self, error=None):
        self.messages = []
        self.delivered = []
        self.error = error

    def publish(self, message, on_delivered):
        if self.error:
            raise self.error
        self.messages.append(message)
        self.delivered.append(on_delivered)


def test_a_result_is_published_with_its_id_type_and_options():
    bus = Bus()
    sink = TopicSink(bus.publish, "verge/{thing}/results/{stream}", retain=True, expiry_s=60)
    sink.write(b"{}", result())
    (message,) = bus.messages
    assert message.topic == "verge/T/results/line-3"
    assert message.payload == b"{}"
    assert message.content_type == "application/json"
    assert message.user_properties == (("id", "01M81WYVCZDTGG45NEC23Z3NFM"),)
    assert (message.qos, message.retain, message.expiry_s) == (1, True, 60)


def test_the_topic_may_name_the_camera_and_the_best_label():
    sink = TopicSink(Bus().publish, "site/{camera}/{label}")
    assert sink.topic(result(prediction("Cat"), prediction("Dog"), camera="door")) == "site/door/Cat"
    assert sink.topic(result(camera="door")) == "site/door/none"
    assert sink.topic(result(Anomaly(True, 0.9), camera="door")) == "site/door/anomaly"
    assert sink.topic(result(Text("a/b"), camera="door")) == "site/door/none"


@given(TEXT, TEXT)
def test_no_name_from_outside_can_add_levels_or_wildcards_to_a_topic(camera, label):
    topic = TopicSink(Bus().publish, "v/{thing}/{camera}/{label}").topic(result(prediction(label), camera=camera))
    assert topic.count("/") == 3
    assert not set("+#\0") & set(topic)
    assert all(topic.split("/"))


@pytest.mark.parametrize(
    "template",
    ["", "v/{strem}", "v/{}", "v/{0}", "v/{stream.name}", "v/{stream!r}", "v/{stream:>9}", "v/{", "v/+", "v/#", "v/\0"],
)
def test_a_template_that_is_no_topic_is_refused_when_it_is_configured(template):
    with pytest.raises(ConfigError) as caught:
        TopicSink(Bus().publish, template)
    assert caught.value.code == "topic-wrong"
    assert "{camera}" in caught.value.hint


@pytest.mark.parametrize("error", [NotConnectedError("down"), PublishError("too large", code="packet-too-large")])
def test_what_the_transport_refuses_is_counted_by_code_and_raises_nothing(error):
    sink = TopicSink(Bus(error).publish, "t")
    sink.write(b"{}", result())
    sink.write(b"{}", result())
    assert sink.lost == {error.code: 2}


def test_what_the_transport_loses_later_is_counted_too():
    bus = Bus()
    sink = TopicSink(bus.publish, "t")
    for _ in range(3):
        sink.write(b"{}", result())
    bus.delivered[0](None)
    bus.delivered[1](PublishError("quota", code="quota-exceeded"))
    assert sink.lost == {"quota-exceeded": 1}


def test_results_may_go_to_the_log_alone_one_line_each(caplog):
    sink = LogSink()
    with caplog.at_level(logging.INFO, "agent.results"):
        sink.write(b'{\n "n": 1\n}', result())
        sink.write(b"\xff", result())
    assert [record.message for record in caplog.records] == ['line-3: {  "n": 1 }', "line-3: \\xff"]
    sink.close()
    assert not sink.lost


def lines(path):
    return path.read_bytes().splitlines()


def test_results_are_appended_as_lines_that_can_be_read_at_once(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    sink = FileSink(FileSinkOptions(path=str(path)))
    sink.write(b'{"n":1}', result())
    assert lines(path) == [b'{"n":1}']
    sink.write(b'{\n "n": 2\n}', result())
    assert [json.loads(line) for line in lines(path)] == [{"n": 1}, {"n": 2}]
    sink.close()


def test_a_restart_goes_on_where_the_file_ended(tmp_path):
    path = tmp_path / "r.jsonl"
    for number in range(2):
        sink = FileSink(FileSinkOptions(path=str(path)))
        sink.write(b"%d" % number, result())
        sink.close()
    assert lines(path) == [b"0", b"1"]


def test_a_line_that_a_power_cut_left_torn_spoils_no_other(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":')
    sink = FileSink(FileSinkOptions(path=str(path)))
    sink.write(b'{"n":3}', result())
    sink.close()
    assert lines(path) == [b'{"n":1}', b'{"n":', b'{"n":3}']


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 6000), max_size=25), keep=st.integers(1, 4))
def test_rotated_files_are_bounded_and_hold_the_newest_lines_in_order(tmp_path_factory, sizes, keep):
    path = tmp_path_factory.mktemp("sink") / "r.jsonl"
    sink = FileSink(FileSinkOptions(path=str(path), max_bytes=4096, keep=keep))
    written = [b"%03d" % number + b"x" * size for number, size in enumerate(sizes)]
    for line in written:
        sink.write(line, result())
    sink.close()
    files = sorted(path.parent.iterdir(), key=lambda file: file.name, reverse=True)
    found = [line for file in files for line in lines(file)]
    assert len(files) <= keep
    assert found == written[len(written) - len(found) :]
    assert not written or found, "the newest line is always there"
    assert all(file.stat().st_size <= 4096 or len(lines(file)) == 1 for file in files)
    assert sink.lost == {}


def test_a_file_that_someone_removed_is_made_again(tmp_path):
    path = tmp_path / "r.jsonl"
    sink = FileSink(FileSinkOptions(path=str(path)))
    sink.write(b"1", result())
    path.unlink()
    sink.write(b"2", result())
    sink.close()
    assert lines(path) == [b"2"]


def test_a_path_that_cannot_be_written_is_counted_each_time_and_said_once(tmp_path, caplog):
    (tmp_path / "file").touch()
    sink = FileSink(FileSinkOptions(path=str(tmp_path / "file" / "r.jsonl")))
    for _ in range(3):
        sink.write(b"{}", result())
    assert sink.lost == {"disk-error": 3}
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_a_sink_in_trouble_goes_on_when_the_trouble_is_over(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "folder"
    folder.touch()
    sink = FileSink(FileSinkOptions(path=str(folder / "r.jsonl")))
    sink.write(b"1", result())
    folder.unlink()
    sink.write(b"2", result())
    sink.write(b"3", result())
    sink.close()
    assert lines(folder / "r.jsonl") == [b"2", b"3"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_a_full_disk_is_counted_as_one_and_no_error(caplog):
    sink = FileSink(FileSinkOptions(path="/dev/full"))
    for _ in range(3):
        sink.write(b"{}", result())
    assert sink.lost == {"disk-full": 3}
    assert len(caplog.records) == 1
    assert "make room" in caplog.text


def test_a_line_that_does_not_fit_any_more_leaves_no_half_of_it(tmp_path, full_after):
    path = tmp_path / "r.jsonl"
    sink = FileSink(FileSinkOptions(path=str(path)))
    with full_after(100):
        sink.write(b"a" * 59, result())
        sink.write(b"b" * 59, result())
        sink.write(b"c" * 39, result())
    sink.close()
    assert lines(path) == [b"a" * 59, b"c" * 39]
    assert sink.lost == {"disk-full": 1}


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_the_files_are_the_agents_alone_until_their_owner_says_otherwise(tmp_path, mask):
    path, older = tmp_path / "made" / "r.jsonl", tmp_path / "made" / "r.jsonl.1"
    before = os.umask(mask)
    try:
        sink = FileSink(FileSinkOptions(path=str(path), max_bytes=4))
        sink.write(b"{}", result())
        assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)] == [0o700, 0o600]
        path.chmod(0o640)
        sink.write(b"{}", result())
        sink.close()
        sink.write(b"{}", result())
        sink.close()
    finally:
        os.umask(before)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, older)] == [0o640, 0o640]
