"""Private keys, requests to sign them, and the facts of a certificate.  Pure but for randomness.

Keys are of the curve P-256: every IoT Core endpoint takes them, and a small device makes one in a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.aws.provision.errors import ProvisioningError

__all__ = ["CertificateFacts", "certificate_facts", "check_authorities", "check_pair", "new_key", "request"]

_PEM = serialization.Encoding.PEM
_SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
_NO_CERTIFICATE = "both have to be PEM, the key without a password"


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """Of a certificate: whose it is, from when to when, and IoT Core's id of it."""

    common_name: str
    begins: datetime
    ends: datetime
    id: str
    """The SHA-256 of the certificate: how IoT Core names it."""


def new_key() -> bytes:
    """A private key, as PEM without a password."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def request(key: bytes, common_name: str) -> str:
    """A request to sign ``key``, as PEM."""
    private = _private(key, "the key")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])  # X.509's bound
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(private, hashes.SHA256())
    return signed.public_bytes(_PEM).decode()


def certificate_facts(pem: bytes, name: str = "the certificate") -> CertificateFacts:
    """The facts of the first certificate in ``pem``; raises ``ProvisioningError``."""
    certificate = _certificates(pem, name)[0]
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CertificateFacts(
        str(names[0].value) if names else "",
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def check_pair(
    certificate: bytes, key: bytes, now: datetime | None = None, *, name: str = "the certificate"
) -> CertificateFacts:
    """The certificate's facts; raises ``ProvisioningError`` where it is out of time or the key is another's."""
    facts, now = certificate_facts(certificate, name), now or datetime.now(UTC)
    clock = f"the clock says {now:%Y-%m-%d %H:%M} UTC"
    if now < facts.begins:
        raise ProvisioningError(
            f"{name} is valid from {facts.begins:%Y-%m-%d %H:%M} UTC", code="certificate-early", hint=clock
        )
    if now > facts.ends:
        raise ProvisioningError(
            f"{name} expired on {facts.ends:%Y-%m-%d}", code="certificate-expired", hint=f"get another one; {clock}"
        )
    public = _certificates(certificate, name)[0].public_key().public_bytes(_PEM, _SPKI)
    if _private(key, f"the key of {name}").public_key().public_bytes(_PEM, _SPKI) != public:
        raise ProvisioningError(
            f"the key does not belong to {name}", code="key-mismatch", hint="copy both again, from one download"
        )
    return facts


def check_authorities(pem: bytes, name: str) -> None:
    """Raise ``ProvisioningError`` where there is no certificate to trust."""
    _certificates(pem, name)


def _certificates(pem: bytes, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ProvisioningError(f"{name} holds no certificate", code="bad-pem", hint=_NO_CERTIFICATE) from error


def _private(pem: bytes, name: str) -> ec.EllipticCurvePrivateKey:
    """The key; typed as the kind that we make, any kind that signs behaves alike."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise ProvisioningError(f"{name} cannot be read", code="bad-pem", hint=_NO_CERTIFICATE) from error
    return key  # type: ignore[return-value]
