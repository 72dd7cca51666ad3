"""What names and addresses mean, and what of them may be said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.streams import CameraAddress, camera_address, matches
from agent.sources.secrecy import label, scrubber, shown


@pytest.mark.parametrize(
    ("source", "kind", "address"),
    [
        (0, "device", 0),
        ("3", "device", 3),
        ("/dev/video2", "device", "/dev/video2"),
        ("/dev/v4l/by-id/usb-cam", "device", "/dev/v4l/by-id/usb-cam"),
        ("rtsp://cam/1", "url", "rtsp://cam/1"),
        ("HTTPS://cam/mjpeg", "url", "HTTPS://cam/mjpeg"),
        ("clip.mp4", "file", "clip.mp4"),
        ("/videos/clip.avi", "file", "/videos/clip.avi"),
        ("file:///videos/clip.avi", "file", "/videos/clip.avi"),
        ("gstreamer: videotestsrc ! appsink", "gstreamer", "videotestsrc ! appsink"),
        ("picamera2", "picamera2", 0),
        ("picamera2:1", "picamera2", 1),
    ],
)
def test_a_source_says_what_kind_of_camera_it_is(source, kind, address) -> None:
    assert camera_address(source) == CameraAddress(kind, address)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "cat.jpg", True),
        ("*", "cat.JPEG", True),
        ("*", "cat.Npy", True),
        ("*", "cat.gif", False),
        ("*", "jpg", False),
        ("*", ".cat.jpg", False),
        (".*", ".cat.jpg", True),
        ("*.jpg", "CAT.JPG", True),
        ("*.JPG", "cat.jpg", True),
        ("cat*.png", "Cat1.png", False),
        ("line-?.bmp", "line-3.BMP", True),
        ("[ab].webp", "c.webp", False),
    ],
)
def test_a_pattern_takes_pictures_with_their_extension_in_any_case(pattern, name, fits) -> None:
    assert matches(pattern, name) is fits


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("rtsp://admin:hunter2@door:554/live", "rtsp://door:554/live"),
        ("rtsp://admin:hun@ter2@door/live", "rtsp://door/live"),
        ("http://cam/mjpeg?user=admin&password=hunter2", "http://cam/mjpeg"),
        ("http://cam/mjpeg?token=hunter2#x", "http://cam/mjpeg"),
        ("rtsp://door/live", "rtsp://door/live"),
    ],
)
def test_credentials_are_not_shown(address, seen) -> None:
    assert shown(camera_address(address)) == seen
    assert "hunter2" not in label(camera_address(address))


WORDS = st.text(
    st.characters(min_codepoint=48, max_codepoint=122, categories=("Lu", "Ll", "Nd")), min_size=6, max_size=12
)


@given(WORDS, WORDS, WORDS)
def test_whatever_a_library_prints_of_an_address_its_secrets_are_not_in_it(user, password, token) -> None:
    secret = f"~{password}"
    address = f"rtsp://{user}:{secret}@cam/x?token={token}x"
    scrub = scrubber(camera_address(address))
    for text in (
        f"cannot open {address}: 401",
        f"'{address}'",
        f"user {user}, password {secret}",
        f"GET /x?token={token}x",
    ):
        assert secret not in scrub(text)
        assert f"{token}x" not in scrub(text)


def test_a_pipeline_is_never_shown_and_its_properties_are_scrubbed() -> None:
    pipeline = 'gstreamer: rtspsrc location=rtsp://u:hunter2@cam user-id=boss user-pw="open sesame" ! appsink'
    assert shown(camera_address(pipeline)) == "gstreamer pipeline"
    said = scrubber(camera_address(pipeline))("no element in: " + pipeline)
    assert not any(word in said for word in ("hunter2", "boss", "sesame"))
