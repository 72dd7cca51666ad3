"""Key lists: who may deploy what, and which list takes another's place.  Real keys, real signatures, nothing else."""

from __future__ import annotations

import json

import pytest

from agent.greengrass.trust import keylist
from agent.greengrass.trust.freshness import Freshness, stamped
from agent.greengrass.trust.keylist import KeyList, Scope
from agent.greengrass.trust.policy import Link, LinkKind, TrustPolicy
from agent.greengrass.trust.signatures import NotTrustedError
from tests.support.keylists import NOW, key, key_list, opened, signed_document, signed_list, stamp

LINE = {"keys": ["carl"], "things": ["press-*"], "groups": ["lab"], "components": ["com.acme.*"]}
HOUR, DAY = 3600.0, 86_400.0


def listed(version=1, roles=None, **more) -> KeyList:
    return keylist.read(key_list(version, {"line-3": LINE} if roles is None else roles, **more))


def scope(*components, thing="press-7", group="thinggroup/lab") -> Scope:
    return Scope(thing, group, frozenset(components))


# -- roles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "allowed"),
    [
        (scope("com.acme.detect"), True),
        (scope("com.acme.detect", "com.acme.app"), True),
        (scope(), True),
        (scope("com.acme.detect", "org.other"), False),
        (scope("aws.greengrass.Nucleus"), False),
        (scope("com.acme.detect", thing="lathe-1"), False),
        (scope("com.acme.detect", group="thinggroup/shop"), False),
        (scope("com.acme.detect", group="LOCAL_DEPLOYMENT"), False),
        (scope(group="thinggroup/shop"), False),
    ],
)
def test_a_key_deploys_what_its_role_is_for_and_nothing_else(what, allowed):
    refused = listed().refusal([key("carl").public], what)
    assert (refused is None) is allowed, refused


def test_a_refusal_names_the_key_its_role_and_what_that_is_for():
    refused = listed().refusal([key("carl").public], scope("org.other"))
    assert refused is not None
    for part in (key("carl").public.id, "carl", "may not deploy org.other to press-7", "the role line-3", "com.acme.*"):
        assert part in refused
    assert "no role that deploys" in str(listed().refusal([key("anna").public], scope("org.other")))


def test_a_threshold_counts_different_keys_of_the_role():
    keys = listed(roles={"pair": {"keys": ["carl", "dora", "emil"], "threshold": 2}})
    carl, dora, anna = (key(name).public for name in ("carl", "dora", "anna"))
    for short in ([carl], [carl, carl], [carl, anna]):
        assert "needs 2 signatures of the role pair, and 1 came" in str(keys.refusal(short, scope("x")))
    assert keys.refusal([carl, dora], scope("x")) is None


def test_each_component_may_be_covered_by_another_role():
    keys = listed(roles={"a": {"keys": ["carl"], "components": ["a"]}, "b": {"keys": ["dora"], "components": ["b"]}})
    both = [key("carl").public, key("dora").public]
    assert keys.refusal(both, scope("a", "b")) is None
    assert "may not deploy b" in str(keys.refusal(both[:1], scope("a", "b")))


def test_a_recipe_is_signed_by_who_may_deploy_its_component():
    assert listed().recipe_refusal([key("carl").public], "com.acme.detect") is None
    assert "may not sign recipes of org.other" in str(listed().recipe_refusal([key("carl").public], "org.other"))


def test_the_keys_of_a_configuration_are_for_everything_alone():
    keys = KeyList.configured({key("carl").public.id: key("carl").public})
    assert keys.refusal([key("carl").public], scope("anything", thing="any", group="any")) is None


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"version": 0}, "version"),
        ({"version": 2**60}, "version"),
        ({"type": "keys"}, "type"),
        ({"more": 1}, "more"),
        ({"issued": "2026-11-28T20:00:00"}, "issued"),
        ({"keys": [key("anna").public.line, key("anna").public.line, key("carl").public.line]}, "twice"),
        ({"keys": ["verge-ed25519 AAAA"]}, "no public key"),
        ({"keys": []}, "keys"),
        ({"root": {"keys": ["0" * 16]}}, "not in the list"),
        ({"root": {"keys": [key("anna").public.id], "threshold": 2}}, "needs 2 signatures and has 1 keys"),
        ({"root": {"keys": [key("anna").public.id] * 2, "threshold": 2}}, "needs 2 signatures and has 1 keys"),
        ({"root": {"keys": [key("anna").public.id], "threshold": 0}}, "threshold"),
        ({"roles": {"a b": {"keys": [key("carl").public.id]}}}, "no name of a role"),
        ({"roles": {"a": {"keys": [key("carl").public.id], "things": []}}}, "things"),
    ],
)
def test_a_list_that_is_none_is_refused_with_the_place(change, word):
    content = json.dumps(json.loads(key_list(1, {"line-3": LINE})) | change).encode()
    with pytest.raises(NotTrustedError, match="key list cannot be read") as refused:
        keylist.read(content)
    assert word in str(refused.value)


# -- one list after the other ------------------------------------------------------------------------------------------

THREE = {"root": ("anna", "ben"), "threshold": 2}
FOUR = {"root": ("anna", "carl"), "threshold": 2}


def test_the_example_of_the_page_holds():
    three = listed(3, **THREE)
    four = key_list(4, {"line-3": LINE}, **FOUR)
    assert keylist.successor(three, opened(signed_list(four, "anna", "ben", "carl"))).version == 4


@pytest.mark.parametrize("signers", [("anna",), ("anna", "ben"), ("anna", "carl"), ("ben", "carl"), ("dora", "emil")])
def test_a_list_needs_the_threshold_of_the_one_before_it_and_its_own(signers):
    with pytest.raises(NotTrustedError, match="of the 2 signatures"):
        keylist.successor(listed(3, **THREE), opened(signed_list(key_list(4, {"line-3": LINE}, **FOUR), *signers)))


def test_one_key_that_signs_twice_is_one_signature():
    content = key_list(4, {"line-3": LINE}, **THREE)
    with pytest.raises(NotTrustedError, match="1 of the 2"):
        keylist.successor(listed(3, **THREE), opened(signed_list(content, "anna", "anna")))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_or_equal_list_never_comes_back(version):
    with pytest.raises(NotTrustedError, match="is not newer than 3"):
        keylist.successor(listed(3), opened(signed_list(key_list(version, {"line-3": LINE}), "anna")))


def test_a_list_may_pass_over_numbers_but_not_use_them_up():
    for version, taken in ((9, True), (1003, True), (1004, False), (2**53, False)):
        signed = opened(signed_list(key_list(version, {"line-3": LINE}), "anna"))
        if taken:
            assert keylist.successor(listed(3), signed).version == version
        else:
            with pytest.raises(NotTrustedError, match="versions ahead"):
                keylist.successor(listed(3), signed)


def test_a_signature_of_a_document_is_none_of_a_list():
    with pytest.raises(NotTrustedError, match="does not fit the key list"):
        keylist.first(opened(signed_document(json.loads(key_list(1, {"line-3": LINE})), "anna")))


def test_the_first_list_is_signed_by_its_own_root():
    content = key_list(1, {"line-3": LINE}, **THREE)
    assert keylist.first(opened(signed_list(content, "anna", "ben"))).version == 1
    with pytest.raises(NotTrustedError, match="1 of the 2 signatures that it needs from the root of the list"):
        keylist.first(opened(signed_list(content, "anna")))


# -- documents under a list --------------------------------------------------------------------------------------------

ANY = {"all": {"keys": ["carl"]}}
SIGNED = {"link": Link(LinkKind.LOCAL), "accept": "signed"}


def admit(policy: TrustPolicy, payload: bytes, now: float = NOW):
    return policy.admit(payload, thing="press-7", now=now)


def test_what_a_revoked_key_signed_is_refused_over_every_link():
    payload = signed_document({"components": {}}, "carl")
    without = listed(2, {"all": {"keys": ["dora"]}})
    for accept in ("trusted-links", "signed"):
        policy = TrustPolicy(Link(LinkKind.LOCAL), accept, listed(1, ANY))
        assert admit(policy, payload).signers == (key("carl").public,)
        with pytest.raises(NotTrustedError, match=r"not in this device's key list \(version 2\): it was revoked"):
            admit(TrustPolicy(Link(LinkKind.LOCAL), accept, without), payload)


def test_nothing_that_the_keys_of_an_expired_list_sign_is_taken_but_the_next_list():
    old = listed(1, ANY, expires=NOW + HOUR)
    payload = signed_document({"components": {}}, "carl")
    assert admit(TrustPolicy(**SIGNED, keys=old), payload).signers
    with pytest.raises(NotTrustedError, match="has expired"):
        admit(TrustPolicy(**SIGNED, keys=old), payload, NOW + HOUR)
    assert keylist.successor(old, opened(signed_list(key_list(2, ANY), "anna"))).version == 2


# -- freshness ---------------------------------------------------------------------------------------------------------

STAMPED = {"timestamp": ("tim",)}


def after(fresh: Freshness, at: float, now: float = NOW, signers=("tim",), **more) -> Freshness:
    return stamped(fresh, opened(stamp(at, *signers, **more)), listed(3, **STAMPED), now)


def test_the_age_counts_from_the_signing_and_an_old_word_makes_nothing_younger():
    fresh = after(Freshness(), NOW - 2 * HOUR)
    assert fresh.age(NOW) == 2 * HOUR
    fresh = after(fresh, NOW - HOUR)
    again = after(fresh, NOW - 2 * HOUR, NOW + 3 * HOUR)
    assert again == fresh
    assert again.age(NOW + 3 * HOUR) == 4 * HOUR


def test_a_timestamp_from_the_future_or_of_another_key_is_refused():
    with pytest.raises(NotTrustedError, match="clock"):
        after(Freshness(), NOW + DAY + 60)
    assert after(Freshness(), NOW + HOUR).age(NOW) == 0
    for strangers in (("carl",), ("nobody",)):
        with pytest.raises(NotTrustedError, match="0 of the 1 signatures"):
            after(Freshness(), NOW, signers=strangers)


def test_a_timestamp_names_the_list_that_is_kept_from_a_device():
    fresh = after(Freshness(), NOW, keys=4)
    payload = signed_document({"components": {}}, "carl")
    three, four = listed(3, ANY, **STAMPED), listed(4, ANY, **STAMPED)
    with pytest.raises(NotTrustedError, match="there is a key list 4, and this device has 3"):
        admit(TrustPolicy(**SIGNED, keys=three, freshness=fresh), payload)
    assert admit(TrustPolicy(**SIGNED, keys=four, freshness=fresh.with_keys(three, four, NOW)), payload)


def test_other_timestamp_keys_forget_what_the_old_ones_said():
    fresh = after(Freshness(), NOW, keys=900)
    new = listed(4, timestamp=("tom",))
    assert fresh.missing_list(new) == 900
    assert fresh.with_keys(listed(3, **STAMPED), new, NOW).missing_list(new) is None


def test_in_silence_only_what_was_signed_within_the_limit_is_taken():
    def policy(fresh: Freshness) -> TrustPolicy:
        return TrustPolicy(Link(LinkKind.LOCAL), keys=listed(1, ANY), freshness=fresh, max_silence_s=2 * HOUR)

    for silent in (Freshness(), Freshness(NOW - 3 * HOUR)):
        for payload in (b'{"components": {}}', signed_document({"components": {}}, "carl", at=NOW - 3 * HOUR),
                        signed_document({"components": {}}, "carl")):  # fmt: skip
            with pytest.raises(NotTrustedError, match="within 7200 s"):
                admit(policy(silent), payload)
        assert admit(policy(silent), signed_document({"components": {}}, "carl", at=NOW - HOUR)).signers
    assert admit(policy(Freshness(NOW - HOUR)), b'{"components": {}}').signers == ()
