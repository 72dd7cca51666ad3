"""Every public component of AWS's, and what becomes of it here: one table, from which hints, notes and the page come.

(AWS IoT Greengrass V2 Developer Guide, "AWS-provided components".)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

__all__ = ["COMPONENTS", "AmazonComponent", "Standing"]


class Standing(StrEnum):
    """What becomes of a component."""

    SERVED = "served"
    """The agent does what it does."""
    PARTLY = "partly"
    """The agent does the part of it that is said."""
    NAMED = "named"
    """It is refused, with what to do in its place."""


class AmazonComponent(NamedTuple):
    """``why`` is a sentence about what is there or not; ``instead`` is what to do without it."""

    standing: Standing
    why: str
    instead: str = ""


def _served(why: str) -> AmazonComponent:
    return AmazonComponent(Standing.SERVED, why)


def _partly(why: str, instead: str = "") -> AmazonComponent:
    return AmazonComponent(Standing.PARTLY, why, instead)


def _named(why: str, instead: str) -> AmazonComponent:
    return AmazonComponent(Standing.NAMED, why, instead)


_LAMBDA: Final = _named(
    "it runs Lambda functions, which need AWS's closed launcher and runtimes",
    "make the function a component of its own, with a Run script that starts it",
)
_DEVICES: Final = _named(
    "client devices speak to a broker, and the agent is a client of brokers",
    "have devices connect to a broker of yours, such as mosquitto, which the agent connects to as well",
)
_SITEWISE: Final = _named(
    "it is a closed part of IoT SiteWise's gateways",
    "publish the values to a topic, and have a rule of AWS IoT hand them to SiteWise",
)
_SAMPLE: Final = _served("AWS's own keys, topics and payloads; the agent's workers in the place of its scripts")
_STORE: Final = _served("the model that ships with the agent; a component of yours with this name brings another")

COMPONENTS: Final[Mapping[str, AmazonComponent]] = {
    "aws.greengrass.Nucleus": _served("it is the agent itself; what of its configuration has effect is said below"),
    "aws.greengrass.NucleusLite": _named("the agent stands in its place", "depend on aws.greengrass.Nucleus, softly"),
    "aws.greengrass.Cli": _served("token files and operations; the program greengrass-cli comes from AWS"),
    "aws.greengrass.TokenExchangeService": _served("with a role alias in the table [aws]"),
    "aws.greengrass.ShadowManager": _served("local shadows, and their sync with AWS IoT Core or a broker"),
    "aws.greengrass.SecretManager": _served("secrets of AWS Secrets Manager, and of a folder of files"),
    "aws.greengrass.LogManager": _partly(
        "components' logs go to CloudWatch Logs; the agent's own do not",
        "read them in the system's journal",
    ),
    "aws.greengrass.StreamManager": _partly(
        "streams on disk, read and appended by AWS's own clients; exports to S3, Kinesis, SiteWise and HTTP",
        "IoT Analytics is gone; what is said of threads, bandwidth and the Java machine has no effect",
    ),
    "aws.greengrass.DockerApplicationManager": _served(
        "docker: artifacts are pulled with the docker CLI, private ones of Amazon ECR too"
    ),
    "aws.greengrass.DiskSpooler": _named("messages are kept otherwise", "give the transport an outbox, on disk"),
    "aws.greengrass.LocalDebugConsole": _named(
        "there is no such page", "look with verge watch, verge components and verge deployments"
    ),
    "aws.greengrass.telemetry.NucleusEmitter": _named(
        "the agent tells its numbers by itself", "read the agent's own status topics"
    ),
    "aws.greengrass.SecureTunneling": _named(
        "it is AWS's closed client", "reach the device over a VPN or SSH, or run AWS's open device client beside it"
    ),
    "aws.greengrass.SystemsManagerAgent": _named("it is AWS's closed agent", "install it as a service of the system"),
    "aws.greengrass.DeviceDefender": _named(
        "it is a Lambda function", "run AWS's Device Defender sample agent as a component of its own"
    ),
    "aws.greengrass.Cloudwatch": _named("it is a connector", "publish to a topic, and have a rule of AWS IoT put it"),
    "aws.greengrass.SNS": _named("it is a connector", "publish to a topic, and have a rule of AWS IoT send it on"),
    "aws.greengrass.KinesisFirehose": _named(
        "it is a connector", "publish to a topic, and have a rule of AWS IoT send it on"
    ),
    "aws.greengrass.Modbus-RTU-Protocol-Adapter": _named(
        "it is a connector", "run a component of its own with a Modbus library, such as pymodbus"
    ),
    "aws.greengrass.LambdaLauncher": _LAMBDA,
    "aws.greengrass.LambdaManager": _LAMBDA,
    "aws.greengrass.LambdaRuntimes": _LAMBDA,
    "aws.greengrass.LegacySubscriptionRouter": _LAMBDA,
    "aws.greengrass.clientdevices.Auth": _DEVICES,
    "aws.greengrass.clientdevices.IPDetector": _DEVICES,
    "aws.greengrass.clientdevices.mqtt.Bridge": _DEVICES,
    "aws.greengrass.clientdevices.mqtt.EMQX": _DEVICES,
    "aws.greengrass.clientdevices.mqtt.Moquette": _DEVICES,
    "aws.iot.SiteWiseEdgeCollectorOpcua": _SITEWISE,
    "aws.iot.SiteWiseEdgePublisher": _SITEWISE,
    "aws.iot.SiteWiseEdgeProcessor": _SITEWISE,
    "aws.greengrass.DLRImageClassification": _SAMPLE,
    "aws.greengrass.DLRObjectDetection": _SAMPLE,
    "aws.greengrass.TensorFlowLiteImageClassification": _SAMPLE,
    "aws.greengrass.TensorFlowLiteObjectDetection": _SAMPLE,
    "variant.DLR": _served("an environment of its own with DLR"),
    "variant.TensorFlowLite": _served("an environment of its own with LiteRT"),
    "variant.DLR.ImageClassification.ModelStore": _STORE,
    "variant.DLR.ObjectDetection.ModelStore": _STORE,
    "variant.TensorFlowLite.ImageClassification.ModelStore": _STORE,
    "variant.TensorFlowLite.ObjectDetection.ModelStore": _STORE,
    "variant.ImageClassification.ModelStore": _STORE,
    "variant.ObjectDetection.ModelStore": _STORE,
    "aws.greengrass.SageMakerEdgeManager": _served(
        "models by path and of components, over its gRPC interface on its socket; captures to the disk and to S3"
    ),
    "aws.iot.lookoutvision.EdgeAgent": _served("the models of components, over its gRPC interface on its socket"),
}
"""By name."""
