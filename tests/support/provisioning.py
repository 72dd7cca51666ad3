"""A fleet provisioning service for one broker: it signs requests with an authority of its own and registers things.

It answers as AWS documents it, and misbehaves on cue: ``rejects`` maps a step to (status code, error code, message),
steps in ``silent`` are not answered.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import secrets
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.mqtt.transport import Message, Transport
from tests.support.certs import Certificates

CSR, KEYS, REGISTER = "create-from-csr", "create", "provision"
_PEM = serialization.Encoding.PEM


class Authority:
    """Signs the certificates of things; ``trusted`` makes a broker's authorities of it and the test's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stand-in for Amazon Root CA")])
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def trusted(self, certificates: Certificates) -> Certificates:
        bundle = self._folder / "authorities.pem"
        bundle.write_bytes(certificates.ca.read_bytes() + self._certificate.public_bytes(_PEM))
        return dataclasses.replace(certificates, ca=bundle)

    def sign(self, public: Any, days: int = 20) -> bytes:
        now = dt.datetime.now(dt.UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AWS IoT Certificate")]))
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=40))
            .not_valid_after(now + dt.timedelta(days=days))
            .sign(self._key, hashes.SHA256())
        )
        return signed.public_bytes(_PEM)


class ProvisioningService:
    """Serves while it is entered; ``transport`` may do everything at the broker."""

    def __init__(self, transport: Transport, authority: Authority) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.rejects: dict[str, tuple[int, str, str]] = {}
        self.silent: set[str] = set()
        self.days = 20
        self._transport = transport
        self._authority = authority
        self._tokens: set[str] = set()
        self._filters = (
            f"$aws/certificates/{CSR}/json",
            f"$aws/certificates/{KEYS}/json",
            f"$aws/provisioning-templates/+/{REGISTER}/json",
        )

    async def __aenter__(self) -> Self:
        for each in self._filters:
            self._transport.subscribe(each, self._heard, qos=1)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for each in self._filters:
            self._transport.unsubscribe(each, self._heard)

    def _heard(self, message: Message) -> None:
        step, request = message.topic.split("/")[-2], json.loads(message.payload)
        self.asked.append((message.topic, request))
        if step in self.silent:
            return
        if step in self.rejects:
            status, code, text = self.rejects[step]
            self._answer(message, "rejected", {"statusCode": status, "errorCode": code, "errorMessage": text})
        elif step == REGISTER:
            self._register(message, request)
        else:
            self._sign(message, request)

    def _sign(self, message: Message, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {}
        if "certificateSigningRequest" in request:
            csr = x509.load_pem_x509_csr(request["certificateSigningRequest"].encode())
            assert csr.is_signature_valid
            public = csr.public_key()
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            public = key.public_key()
            form = serialization.PrivateFormat.PKCS8
            answer["privateKey"] = key.private_bytes(_PEM, form, serialization.NoEncryption()).decode()
        pem = self._authority.sign(public, self.days)
        token = secrets.token_hex()
        self._tokens.add(token)
        identity = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()
        answer |= {"certificateId": identity, "certificatePem": pem.decode(), "certificateOwnershipToken": token}
        self._answer(message, "accepted", answer)

    def _register(self, message: Message, request: dict[str, Any]) -> None:
        if request["certificateOwnershipToken"] not in self._tokens:
            told = {"statusCode": 403, "errorCode": "InvalidCertificateOwnershipToken", "errorMessage": "Token expired"}
            self._answer(message, "rejected", told)
            return
        parameters = request["parameters"]
        thing = parameters.get("ThingName") or f"thing-{parameters['SerialNumber']}"
        self._answer(message, "accepted", {"thingName": thing, "deviceConfiguration": {}})

    def expire_tokens(self) -> None:
        """As an hour later."""
        self._tokens.clear()

    def _answer(self, message: Message, kind: str, told: dict[str, Any]) -> None:
        self._transport.publish(Message(f"{message.topic}/{kind}", json.dumps(told).encode(), qos=1))
