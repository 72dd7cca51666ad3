"""``verge doctor``: what it finds, and what it says to do."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.doctor import components, files, machine, tls
from agent.doctor.brokers import limits
from agent.doctor.finding import FindingStatus
from agent.doctor.tls import validity
from agent.inference.environments.host import Host, Interpreter
from agent.mqtt.limits import BrokerLimits
from tests.support import certs
from tests.support.broker import Broker

NOW = datetime.now(UTC)


def write(tmp_path, port, more=""):
    text = f'thing = "edge-1"\ndata_dir = "data"\n[transports.local]\nport = {port}\nclient_id = "edge-1"\n{more}'
    text += '[models.m]\nsource = "detector"\n[streams.front]\nmodel = "m"\ninput.topic = "cameras/+/frame"\n'
    (tmp_path / "verge.toml").write_text(text)
    return "verge.toml"


def by_check(done):
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


def test_a_machine_and_a_configuration_that_are_well_pass(verge, broker, tmp_path):
    done = verge("doctor", "-c", write(tmp_path, broker.port), "--json")
    found = by_check(done)
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert {
        "python", "libc", "cpu", "memory", "frame memory", "numpy", "opencv", "backend litert", "backend onnx",
        "backend opencv", "sample model", "config", "data folder", "broker local", "model m",
        "platform", "pythons", "runtimes", "inference", "model stores", "servers",
    } <= found.keys()  # fmt: skip
    assert f"free under {tmp_path / 'data'}" in found["inference"]["detail"]
    assert sys.version.split()[0] in found["pythons"]["detail"]
    assert "Egyptian cat" in found["sample model"]["detail"]
    assert "MQTT 5, QoS 2" in found["broker local"]["detail"]
    assert all(finding["status"] == "OK" or finding["fix"] for finding in found.values())
    assert not (tmp_path / "data").exists()


def test_people_get_a_line_a_check_and_the_fix_below_it(verge, tmp_path, free_port):
    done = verge("doctor", "-c", write(tmp_path, free_port), COLUMNS="80")
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("FAIL"))
    assert done.returncode == 1
    assert lines[at] == f"FAIL  broker local     no connection to 127.0.0.1:{free_port}: connection refused"
    assert lines[at + 1].strip() == "→ check that the broker runs, host and port"
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("1 failed, ")


def test_a_broker_that_refuses_what_a_stream_asks_for_is_a_failure(verge, tmp_path, plain_broker):
    found = by_check(verge("doctor", "-c", write(tmp_path, plain_broker), "--json"))["broker local"]
    assert found["status"] == "FAIL"
    assert "the broker has no wildcard subscriptions" in found["detail"]
    assert "stream front asks for cameras/+/frame" in found["fix"]


def test_a_backend_that_crashes_is_a_failure_and_the_examination_goes_on(verge, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    done = verge("doctor", "--json", PYTHONPATH=str(tmp_path))
    found = by_check(done)
    assert done.returncode == 1
    assert found["backend onnx"]["status"] == "FAIL"
    assert "SIGILL" in found["backend onnx"]["detail"]
    assert "this CPU" in found["backend onnx"]["fix"]
    assert found["sample model"]["status"] == "OK"


def test_a_backend_that_is_not_installed_is_a_warning_with_the_command_that_installs_it(verge, without):
    done = verge("doctor", "--json", PYTHONPATH=without("onnxruntime"))
    found = by_check(done)["backend onnx"]
    assert done.returncode == 0
    assert (found["status"], found["fix"]) == ("WARN", "pip install 'verge-edge[onnx]'")


def test_without_numpy_the_rest_is_still_examined(verge, without):
    done = verge("doctor", "--json", PYTHONPATH=without("numpy"))
    found = by_check(done)
    assert done.returncode == 1
    assert found["numpy"]["fix"] == "pip install numpy"
    assert found["sample model"]["status"] == "FAIL"


def test_a_configuration_that_cannot_be_read_is_one_failure(verge, tmp_path):
    done = verge("doctor", "-c", write(tmp_path, 1883, "hots = 'x'\n"), "--json")
    found = by_check(done)["config"]
    assert done.returncode == 1
    assert found["status"] == "FAIL"
    assert found["fix"] == "did you mean host?"


def test_the_tls_files_and_the_password_are_examined_and_the_broker_is_reached_with_them(verge, tmp_path, certificates):
    (tmp_path / "secret").write_text("word")
    (tmp_path / "secret").chmod(0o600)
    more = 'username = "me"\npassword_file = "secret"\n[transports.local.tls]\n'
    named = {"ca": certificates.ca, "cert": certificates.client_cert, "key": certificates.client_key}
    more += "".join(f'{word}_file = "{path}"\n' for word, path in named.items())
    with Broker(tls=certificates, client_certificates=True, passwords={"me": "word"}) as broker:
        done = verge("doctor", "-c", write(tmp_path, broker.port, more), "--json")
    found = by_check(done)
    assert done.returncode == 0, done.stdout
    for check in ("ca_file local", "key_file local", "key pair local", "password local", "broker local"):
        assert found[check]["status"] == "OK", found[check]
    assert found["cert_file local"]["status"] == "WARN"  # the test's certificates last for a month


@pytest.mark.parametrize(
    ("moment", "status", "word"),
    [
        (NOW - timedelta(days=2), FindingStatus.OK, "valid until"),
        (NOW + timedelta(days=20), FindingStatus.WARN, "expires on"),
        (NOW + timedelta(days=40), FindingStatus.FAIL, "expired on"),
        (NOW - timedelta(days=9), FindingStatus.FAIL, "valid from"),
    ],
)
def test_a_certificate_out_of_its_time_is_told(certificates, moment, status, word):
    found = tls.certificate("cert", certificates.client_cert, moment)
    assert (found.status, word in found.detail) == (status, True)
    assert bool(found.fix) == (status is not FindingStatus.OK)


def test_the_validity_is_the_one_that_the_certificate_tells(certificates):
    for path in (certificates.ca, certificates.client_cert):
        known = x509.load_pem_x509_certificate(path.read_bytes())
        assert validity(path.read_text()) == (known.not_valid_before_utc, known.not_valid_after_utc)


def test_what_is_no_certificate_is_told(tmp_path, certificates):
    (tmp_path / "x.pem").write_text("nonsense")
    whole = certificates.client_cert.read_text().splitlines()
    (tmp_path / "cut.pem").write_text("\n".join([*whole[:3], whole[-1]]))
    for name in ("x.pem", "cut.pem", "missing.pem"):
        assert tls.certificate("cert", tmp_path / name, NOW).status is FindingStatus.FAIL
    for name in ("x.pem", "missing.pem"):
        assert tls.authorities("ca", tmp_path / name).status is FindingStatus.FAIL
    assert tls.authorities("ca", certificates.ca).status is FindingStatus.OK


def test_a_key_of_another_certificate_and_a_key_with_a_password_are_told(tmp_path, certificates):
    other = certs.create(tmp_path / "other")
    assert tls.pair("pair", certificates.client_cert, certificates.client_key).status is FindingStatus.OK
    found = tls.pair("pair", certificates.client_cert, other.client_key)
    assert (found.status, found.detail) == (FindingStatus.FAIL, "the key does not belong to the certificate")
    key = serialization.load_pem_private_key(certificates.client_key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"word")
    (tmp_path / "locked.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    found = tls.pair("pair", certificates.client_cert, tmp_path / "locked.key")
    assert found.status is FindingStatus.FAIL
    assert "without a password" in found.fix


def test_a_secret_that_others_can_read_is_told_with_the_command_that_mends_it(tmp_path):
    path = tmp_path / "key"
    path.write_text("x")
    for mode, status in (
        (0o600, FindingStatus.OK),
        (0o400, FindingStatus.OK),
        (0o640, FindingStatus.WARN),
        (0o644, FindingStatus.WARN),
    ):
        path.chmod(mode)
        assert files.secret("key", path).status is status
    assert files.secret("key", path).fix == f"chmod 600 {path}"
    assert files.secret("key", tmp_path / "missing").status is FindingStatus.FAIL


def test_a_data_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert files.data_folder(tmp_path / "new" / "er").status is FindingStatus.OK
    assert files.data_folder(tmp_path / "file" / "inside").status is FindingStatus.FAIL
    assert files.data_folder(Path("/proc/verge")).status is FindingStatus.FAIL  # where not even root can write
    assert not list(tmp_path.glob("new"))


@pytest.mark.parametrize(
    ("arch", "text", "status", "word"),
    [
        ("x86_64", "model name : Xeon\nflags : sse2 avx2\n", FindingStatus.OK, "Xeon, x86_64, 4 cores, avx2"),
        ("x86_64", "model name : Atom\nflags : sse2\n", FindingStatus.WARN, "without avx2"),
        (
            "aarch64",
            "Features : fp asimd\nModel : Raspberry Pi 5\n",
            FindingStatus.OK,
            "Raspberry Pi 5, aarch64, 4 cores, asimd",
        ),
        ("armv7l", "Features : half thumb\nHardware : BCM2709\n", FindingStatus.WARN, "without neon"),
        ("riscv64", "", FindingStatus.WARN, "unknown processor"),
    ],
)
def test_the_processor_is_judged_by_its_vector_instructions(arch, text, status, word):
    found = machine.cpu(arch, text, 4)
    assert (found.status, word in found.detail) == (status, True)


def test_memory_is_what_the_machine_has_and_the_container_allows():
    text = "MemTotal:  4194304 kB\nMemAvailable:  2097152 kB\n"
    assert machine.memory(text, "max\n").detail == "2.0 GiB available of 4.0 GiB"
    assert machine.memory(text, str(1 << 30)).detail == "2.0 GiB available of 4.0 GiB, limited to 1.0 GiB"
    assert machine.memory(text, str(64 << 20)).status is FindingStatus.WARN
    assert machine.memory("", "").status is FindingStatus.WARN


def test_old_systems_are_told_before_wheels_fail_on_them():
    assert machine.libc("glibc", "2.36").status is FindingStatus.OK
    assert machine.libc("glibc", "2.17").status is FindingStatus.WARN
    assert machine.libc("", "").status is FindingStatus.WARN
    assert machine.python((3, 10, 1), "CPython", "/usr/bin/python3").status is FindingStatus.FAIL


def test_what_a_broker_takes_is_told_in_words():
    assert limits(BrokerLimits()) == "MQTT 5, QoS 2, packets of any size, 20 in flight"
    told = BrokerLimits(maximum_packet_size=131_072, retain_available=False, version=4)
    assert limits(told) == "MQTT 3.1.1, QoS 2, packets up to 128.0 KiB, 20 in flight, no retained messages"


ROOMY = {
    "os": "linux", "architecture": "aarch64", "libc": "glibc", "libc_version": "2.36", "disk_free": 8 << 30,
    "memory_total": 4 << 30,
}  # fmt: skip


def test_components_that_have_what_they_ask_for_are_a_line_a_group():
    told = components.groups(ROOMY, Path("/data"))
    assert [(each.check, each.status) for each in told] == [
        ("inference", FindingStatus.OK), ("model stores", FindingStatus.OK), ("servers", FindingStatus.OK),
    ]  # fmt: skip
    names, asks = told[0].detail.split(": ")
    assert set(names.split(", ")) >= {
        "aws.greengrass.DLRObjectDetection",
        "aws.greengrass.TensorFlowLiteObjectDetection",
    }
    assert asks == "each asks for 500 MB of disk (8.0 GiB free under /data), 500 MB of memory, glibc 2.27"


@pytest.mark.parametrize(
    ("changes", "check", "told"),
    [
        ({"disk_free": 400_000_000}, "inference",
         "all 5 components: 400 MB of disk are free, 500 MB are recommended"),
        ({"memory_total": 256_000_000}, "inference",
         "all 5 components: 256 MB of memory are there, 500 MB are recommended"),
        ({"libc_version": "2.24"}, "inference",
         "all 5 components: it needs glibc 2.27 or later, this is glibc 2.24"),
        ({"architecture": "arm"}, "servers",
         "all 2 components: it is for aarch64, amd64, this is arm"),
    ],
)  # fmt: skip
def test_what_components_lack_is_said_once_with_the_fix(changes, check, told):
    worse = [each for each in components.groups(ROOMY | changes, Path("/data")) if each.status is not FindingStatus.OK]
    found = next(each for each in worse if each.check == check)
    assert (found.status, found.detail) == (FindingStatus.WARN, told)
    assert found.fix


def host(**facts) -> Host:
    told = {"path": "/usr/bin/python3.11", "version": (3, 11, 2), "machine": "x86_64", "libc_version": (2, 36)} | facts
    return Host((Interpreter(**told),), frozenset({"avx", "asimd"}), 8 << 30)


def test_runtimes_that_could_be_had_are_one_line():
    (told,) = components.runtimes(host())
    assert (told.status, told.detail) == (
        FindingStatus.OK,
        "can be installed: litert, onnx, opencv, dlr on Python 3.11.2",
    )


def test_a_runtime_that_the_machine_has_no_wheels_for_is_named_and_the_others_are_not():
    fine, lacking = components.runtimes(host(machine="aarch64"))
    assert (fine.status, fine.detail) == (FindingStatus.OK, "can be installed: litert, onnx, opencv on Python 3.11.2")
    assert (lacking.status, lacking.detail) == (
        FindingStatus.WARN, "dlr: the index has dlr wheels for x86_64, not for aarch64",
    )  # fmt: skip
    assert lacking.fix == "bring wheels of your own in a wheelhouse"


def test_pythons_that_make_no_environments_are_told_with_the_package_that_mends_it():
    (told,) = components.runtimes(host(venv=False))
    assert told.detail == "litert, onnx, opencv, dlr: no Python here makes virtual environments"
    assert "python3-venv" in told.fix


def test_a_machine_without_a_python_for_workers_says_which_ones_were_passed_over():
    nothing = Host((), passed_over=("/usr/bin/python3 is CPython 3.7.3, workers run on CPython 3.9 to 3.14",))
    told = components.pythons(nothing)
    assert (told.status, "3.7.3" in told.detail) == (FindingStatus.WARN, True)
    (lacking,) = components.runtimes(nothing)
    assert lacking.detail == "litert, onnx, opencv, dlr: no Python 3.9 to 3.14 was found"
