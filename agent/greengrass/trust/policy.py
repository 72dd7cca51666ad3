"""Who may deploy: where a document came from, who signed it, and what the owner allows.

A document is taken

- from IoT Core, and from a TLS connection that proved who the broker is and who we are;
- from a broker on this machine that asked the agent who it is *and* was seen to keep strangers out (``strangers`` of
  ``agent.mqtt``): where it is says nothing of who else writes to it;
- from anything else only with a signature of a trusted key, or by the owner's word: ``anyone-on-this-broker`` for a
  broker that is known to be the one that is meant, ``anything-from-anyone`` for any.

Until strangers were tried, whether a document of a broker on this machine is taken is *pending*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, Self

from agent.config.deployments import Accept
from agent.config.transports import TransportOptions
from agent.greengrass.errors import DeploymentRejectedError
from agent.greengrass.trust.freshness import Freshness
from agent.greengrass.trust.keylist import KeyList, Scope
from agent.greengrass.trust.keys import PublicKey
from agent.greengrass.trust.signatures import NotTrustedError, open_document
from agent.mqtt.strangers import UNTRIED, StrangerReport, Strangers

__all__ = [
    "FROM_ANYONE",
    "Accept",
    "Admission",
    "DocumentTrust",
    "Link",
    "LinkKind",
    "TrustDecision",
    "TrustPolicy",
    "decide",
]


FROM_ANYONE: Final[tuple[Accept, ...]] = ("anyone-on-this-broker", "anything-from-anyone")
"""What the owner says to take documents from whoever sends them."""


class LinkKind(StrEnum):
    """What a document came over."""

    IOT_CORE = "iot-core"
    BROKER = "broker"
    LOCAL = "local"
    """Nothing outside this process and its owner's command line."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a document came over, and what that connection has proved."""

    kind: LinkKind
    loopback: bool = False
    tls: bool = False
    """Encrypted, and the broker proved who it is."""
    client_authenticated: bool = False
    """We proved who we are, by certificate or password, so that the broker knows who may publish what."""
    tried: StrangerReport = UNTRIED
    """What became of strangers, for a broker on this machine."""

    @classmethod
    def of(cls, options: TransportOptions) -> Self:
        """The link to a broker as it is configured."""
        security = options.security
        return cls(LinkKind(security.rules), security.loopback, security.tls, security.client_authenticated)

    @property
    def on_this_machine(self) -> bool:
        """Whether it leads no further than this machine."""
        return self.loopback or self.kind is LinkKind.LOCAL

    @property
    def turns_on_strangers(self) -> bool:
        """Whether what becomes of strangers decides on what comes over it."""
        return self.loopback and self.kind is LinkKind.BROKER and self.client_authenticated


@dataclass(frozen=True, slots=True)
class TrustDecision:
    """Whether a document is taken, why, and whether each artifact it brings in needs a digest."""

    accepted: bool
    reason: str
    digests: bool = True
    hint: str = ""
    """What makes it one that is taken."""
    pending: bool = False
    """Not taken now; it may be once strangers were tried."""

    @property
    def word(self) -> str:
        """The decision in a word, as the agent's status has it."""
        return "pending" if self.pending else "taken" if self.accepted else "refused"

    @property
    def said(self) -> str:
        """The decision as a sentence about documents that nobody signed."""
        return f"a document that nobody signed is {self.word}: {self.reason}"


def decide(link: Link, signed_by: str | None, accept: Accept) -> TrustDecision:
    """Whether a document that came over this link, signed by this trusted key or by none, is taken."""
    digests = signed_by is not None or not link.on_this_machine
    if signed_by is not None:
        return TrustDecision(accepted=True, reason=f"it is signed by {signed_by}", digests=digests)
    if accept == "anything-from-anyone":
        return TrustDecision(accepted=True, reason="the configuration takes anything from anyone", digests=digests)
    if accept == "anyone-on-this-broker" and (link.on_this_machine or link.tls):
        why = "the configuration takes it from anyone on this broker"
        return TrustDecision(accepted=True, reason=why, digests=digests)
    if accept == "signed":
        why = "it is not signed by a trusted key, and the configuration takes nothing else"
        return TrustDecision(accepted=False, reason=why, digests=digests, hint=_SIGN)
    return _by_link(link, digests=digests)


_UNSIGNED = "it is not signed by a trusted key, and"
_SIGN = "sign it with `verge trust sign` and list the key under deployments.trusted_keys"
_ASK = (
    "give the broker a password (mosquitto_passwd -c FILE verge; in its configuration allow_anonymous false and"
    " password_file FILE) and the agent username and password_file"
)
_CLOSE = "set allow_anonymous false, or an acl_file by which nobody but its deployers may write there"
_BY_NAME = 'or set deployments.accept = "anyone-on-this-broker"'
_HERE = "the broker on this machine"


def _by_link(link: Link, *, digests: bool) -> TrustDecision:
    if link.kind is LinkKind.IOT_CORE:
        return TrustDecision(accepted=True, reason="it came from IoT Core", digests=digests)
    if link.kind is LinkKind.LOCAL:
        return TrustDecision(accepted=True, reason="it came from this machine", digests=digests)
    if link.loopback:
        return _by_strangers(link, digests=digests)
    if link.tls and link.client_authenticated:
        return TrustDecision(accepted=True, reason="it came over TLS with client authentication", digests=digests)
    lacking = "TLS that proves who the broker is" if not link.tls else "a client certificate or password"
    why = f"{_UNSIGNED} it came over a link without {lacking}"
    return TrustDecision(accepted=False, reason=why, digests=digests, hint=f"{_SIGN}, or connect with {lacking}")


def _by_strangers(link: Link, *, digests: bool) -> TrustDecision:
    """The rule for a broker on this machine."""
    found, finding = link.tried.strangers, link.tried.finding
    if link.client_authenticated and (found is Strangers.KEPT_OUT or (found is Strangers.UNCLEAR and link.tls)):
        why = f"it came from {_HERE}, which asks who is there and keeps strangers out"
        return TrustDecision(accepted=True, reason=why, digests=digests)
    pending = link.client_authenticated and found is Strangers.UNTRIED
    if not link.client_authenticated:
        why, mend = f"{_HERE} does not ask the agent who it is, so anybody could have sent it", _ASK
    elif found is Strangers.LET_IN:
        why, mend = f"{_HERE} lets strangers deploy: {finding}", _CLOSE
    elif pending:
        why, mend = f"whether {_HERE} keeps strangers out is not known yet", "send it again in a moment"
    else:
        why, mend = f"whether {_HERE} keeps strangers out is not known: {finding}", _CLOSE
    hint = f"{mend}; {_SIGN}; {_BY_NAME}"
    return TrustDecision(accepted=False, reason=f"{_UNSIGNED} {why}", digests=digests, hint=hint, pending=pending)


@dataclass(frozen=True, slots=True)
class Admission:
    """A document that may be here, the keys that signed it, and whether each artifact that it brings needs a digest."""

    document: bytes
    digests: bool
    signers: tuple[PublicKey, ...] = ()
    signed_at: float | None = None
    """The time that a signed document says it is of, in seconds since the epoch."""


class DocumentTrust(Protocol):
    """What decides on documents: whether one may be here, and then whether its signers may do what it asks."""

    def admit(self, payload: bytes, *, thing: str, now: float, again: bool = False, local: bool = False) -> Admission:
        """The document in ``payload``; raises ``DeploymentRejectedError`` for one that is not taken.

        ``again``: it was taken before the agent ended.  ``local``: it came from the owner's command line and over no
        link.
        """

    def authorize(self, admission: Admission, scope: Scope) -> None:
        """Raise ``DeploymentRejectedError`` where the signers may not do this."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """What decides on the documents of one link: what the link has proved, what the owner takes, and who may sign.

    ``max_silence_s`` is how old the newest signed word may be; None: as old as it is.
    """

    link: Link
    accept: Accept = "trusted-links"
    keys: KeyList = field(default_factory=KeyList)
    freshness: Freshness = field(default_factory=Freshness)
    max_silence_s: float | None = None

    @property
    def unsigned(self) -> TrustDecision:
        """What becomes of a document that nobody signed, as things are."""
        return decide(self.link, None, self.accept)

    def admit(self, payload: bytes, *, thing: str, now: float, again: bool = False, local: bool = False) -> Admission:
        """The document in ``payload``; raises ``DeploymentRejectedError`` for one that is not taken.

        ``again`` is for one that was taken before the agent ended: it does not wait for strangers to be tried.
        ``local`` is for one that came over no link.
        """
        opened = open_document(payload, self.keys.keys, thing=thing, now=now)
        if opened.signers:
            self._check_list(now)
        elif opened.strangers and self.keys.version and self.accept not in FROM_ANYONE:
            raise NotTrustedError(
                f"it is signed by key {', '.join(opened.strangers)}, which is not in this device's key list "
                f"(version {self.keys.version}): it was revoked, or never there",
                hint="sign it with a key of the list; `verge trust list` shows them",
            )
        link = Link(LinkKind.LOCAL) if local else self.link
        verdict = decide(link, str(opened.signed_by) if opened.signed_by else None, self.accept)
        if not verdict.accepted and not (again and verdict.pending):
            raise DeploymentRejectedError(verdict.reason, code="ACCESS_DENIED", hint=verdict.hint)
        self._check_silence(opened.signed_at, now)
        return Admission(opened.document, verdict.digests, opened.signers, opened.signed_at)

    def authorize(self, admission: Admission, scope: Scope) -> None:
        """Raise ``NotTrustedError`` where the keys that signed the document have no role for what it asks."""
        if not admission.signers:
            return
        reason = self.keys.refusal(admission.signers, scope)
        if reason is not None:
            raise NotTrustedError(reason, hint="sign it with a key that may, or give this one a role: `verge trust`")

    def _check_list(self, now: float) -> None:
        if self.keys.expired(now):
            raise NotTrustedError(
                f"this device's key list (version {self.keys.version}) has expired: nothing that its keys sign counts",
                hint="send the next one: `verge trust send`",
            )
        if newer := self.freshness.missing_list(self.keys):
            raise NotTrustedError(
                f"there is a key list {newer}, and this device has {self.keys.version}: it is being kept from it",
                hint=f"send list {newer}: `verge trust send`",
            )

    def _check_silence(self, signed_at: float | None, now: float) -> None:
        if not self.freshness.silent(now, self.max_silence_s):
            return
        if signed_at is not None and not Freshness(signed_at).silent(now, self.max_silence_s):
            return
        age = self.freshness.age(now)
        last = "no signed word ever came" if age is None else f"the last signed word is {age:.0f} s old"
        raise NotTrustedError(
            f"{last}, and this device trusts only what was signed within {self.max_silence_s:.0f} s",
            hint="send a timestamp (`verge trust stamp`, `verge trust send`), or sign the document anew",
        )
