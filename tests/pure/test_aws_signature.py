"""SigV4: AWS's published examples, botocore as the oracle, and everything that must not be let in."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import botocore.auth
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.aws import services
from minicloud.aws.signature import Key, Verifier, read, signature, signing_key
from minicloud.aws.signature_chunks import decoded
from minicloud.aws.wire import Request
from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import Unauthenticated

# IAM User Guide, "Create a signed AWS API request", and the test suite that AWS publishes with it.
EXAMPLE_KEY, EXAMPLE_SECRET = "AKIDEXAMPLE", b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = 1_440_938_160.0  # 2015-08-30 12:36:00
STAMP = "20150830T123600Z"
SQS = services.BY_NAME["sqs"]


def example(method: str, query: str, names: str, proof: str, **headers: str) -> Request:
    given = {"host": "example.amazonaws.com", "x-amz-date": STAMP, **headers}
    given["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={EXAMPLE_KEY}/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={proof}"
    )
    return Request(method, "/", query, given, b"")


EXAMPLES = [
    example("GET", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    example("POST", "", "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    example(
        "GET",
        "Param2=value2&Param1=value1",
        "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
]


@pytest.mark.parametrize("request_", EXAMPLES, ids=["get-vanilla", "post-vanilla", "get-vanilla-query-order"])
def test_published_examples(request_: Request) -> None:
    signed = read(request_)
    key = signing_key(EXAMPLE_SECRET, signed.date, signed.region, signed.service)
    assert signature(request_, signed, hashlib.sha256(b"").hexdigest(), key) == signed.signature


def test_the_published_signing_key() -> None:
    key = signing_key(EXAMPLE_SECRET, "20150830", "us-east-1", "iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"


def keys(key_id: str) -> Key | None:
    found = {EXAMPLE_KEY: Key(EXAMPLE_SECRET, "123456789012")}
    return found.get(key_id)


def verifier(now: float = NOW) -> Verifier:
    return Verifier(keys, lambda: now)


def at(seconds: float) -> Any:
    """botocore's clock stands."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return mock.patch.object(
        botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None)
    )


def sign(
    method: str = "POST",
    path: str = "/",
    query: str = "",
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
    *,
    key_id: str = EXAMPLE_KEY,
    secret: str = EXAMPLE_SECRET.decode(),
    service: str = "sqs",
    region: str = "eu-west-1",
    now: float = NOW,
    presigned: int = 0,
) -> Request:
    """A request as botocore signs it."""
    url = f"http://127.0.0.1:4566{path}" + (f"?{query}" if query else "")
    made = AWSRequest(method, url, headers={"Host": "127.0.0.1:4566", **(headers or {})}, data=body)
    credentials = Credentials(key_id, secret)
    with at(now):
        if presigned:
            SigV4QueryAuth(credentials, service, region, presigned).add_auth(made)
        else:
            SigV4Auth(credentials, service, region).add_auth(made)
    _, _, after = made.url.partition("?")
    sent = {name.lower(): value if isinstance(value, str) else value.decode() for name, value in made.headers.items()}
    return Request(method, path, after, sent, body)


def test_a_request_signed_by_botocore_is_let_in() -> None:
    caller = verifier()(sign(), SQS)
    assert caller == Caller(Scope("123456789012", "eu-west-1"), EXAMPLE_KEY)


def test_whose_a_request_says_it_is_needs_no_signature() -> None:
    verifier = Verifier(keys, lambda: NOW)
    assert verifier.claimed(replace(EXAMPLES[0], body=b"half")) == "123456789012"
    nobody = {**EXAMPLES[0].headers, "authorization": EXAMPLES[0].headers["authorization"].replace("AKID", "AKIX")}
    for headers in (nobody, {}, {"authorization": "AWS4-HMAC-SHA256 Credential=x"}):
        assert verifier.claimed(replace(EXAMPLES[0], headers=headers)) == ""


def test_credentials_for_no_region_are_for_the_clouds_own() -> None:
    here = Verifier(keys, lambda: NOW, region="eu-central-1")
    assert here(sign(region="aws-global"), SQS).scope.region == "eu-central-1"


def test_a_presigned_url_is_let_in_while_it_lives() -> None:
    request = sign("GET", "/", "Action=ListQueues&Version=2012-11-05", b"", presigned=3600)
    assert verifier(NOW + 3599)(request, SQS).scope.account == "123456789012"
    assert refusal(request, now=NOW + 3601) == "RequestExpired"
    assert refusal(request, now=NOW - 301) == "SignatureDoesNotMatch"


TEXT = st.text(st.sampled_from("abcXYZ019 -_.~/+%&=é:;,"), max_size=10)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.lists(st.sampled_from(["a", "b%20c", "%C3%A9", "x.y", "arn%3Aaws", "..", ".", ""]), max_size=4),
    st.lists(
        st.tuples(st.sampled_from(["a", "B", "a%20b", "X", "Filter.1"]), st.sampled_from(["", "1", "%2F", "x%20y"]))
    ),
    st.dictionaries(
        st.sampled_from(["x-amz-target", "content-type", "x-custom"]), st.sampled_from(["a", " a  b ", "x/y"])
    ),
    st.binary(max_size=50),
    st.booleans(),
)
def test_whatever_botocore_signs_is_right(
    method: str, parts: list[str], pairs: list[tuple[str, str]], headers: dict[str, str], body: bytes, presigned: bool
) -> None:
    query = "&".join(f"{name}={value}" for name, value in pairs)
    if presigned:
        headers, body = {}, b""
    request = sign(method, "/" + "/".join(parts), query, body, headers, presigned=60 if presigned else 0)
    assert verifier()(request, SQS).access_key_id == EXAMPLE_KEY


# --- what must not be let in


def refusal(request: Request, now: float = NOW, service: services.Known = SQS) -> str:
    with pytest.raises(Unauthenticated) as failed:
        verifier(now)(request, service)
    return failed.value.code


def changed(request: Request, **headers: str | None) -> Request:
    kept = {name: value for name, value in {**request.headers, **headers}.items() if value is not None}
    return replace(request, headers=kept)


Change = Callable[[Request], Request]
FORGERIES: dict[str, tuple[Change, str]] = {
    "body": (lambda one: replace(one, body=b'{"a":1}'), "SignatureDoesNotMatch"),
    "method": (lambda one: replace(one, method="GET"), "SignatureDoesNotMatch"),
    "path": (lambda one: replace(one, path="/other"), "SignatureDoesNotMatch"),
    "query": (lambda one: replace(one, query="Action=DeleteQueue"), "SignatureDoesNotMatch"),
    "host": (lambda one: changed(one, host="evil.example"), "SignatureDoesNotMatch"),
    "date": (lambda one: changed(one, **{"x-amz-date": "20150830T123601Z"}), "SignatureDoesNotMatch"),
    "a header more": (lambda one: changed(one, **{"x-amz-target": "AmazonSQS.DeleteQueue"}), "SignatureDoesNotMatch"),
    "no signature": (lambda one: changed(one, authorization=None), "MissingAuthenticationToken"),
    "another algorithm": (
        lambda one: _replaced(one, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
        "IncompleteSignature",
    ),
    "no algorithm": (lambda one: _replaced(one, "AWS4-HMAC-SHA256", "none"), "IncompleteSignature"),
    "another key": (lambda one: _replaced(one, EXAMPLE_KEY, "AKIDNOBODY"), "InvalidClientTokenId"),
    "another region": (lambda one: _replaced(one, "eu-west-1", "us-east-1"), "SignatureDoesNotMatch"),
    "another service": (lambda one: _replaced(one, "/sqs/", "/sns/"), "SignatureDoesNotMatch"),
    "another day": (lambda one: _replaced(one, "/20150830/", "/20150831/"), "SignatureDoesNotMatch"),
    "no host": (lambda one: _replaced(one, "host;", ""), "SignatureDoesNotMatch"),
    "an empty signature": (lambda one: _cut_signature(one, ""), "IncompleteSignature"),
    "half a signature": (lambda one: _cut_signature(one, "5fa0"), "SignatureDoesNotMatch"),
    "four parts": (lambda one: _replaced(one, "/aws4_request", ""), "IncompleteSignature"),
    "no date": (lambda one: changed(one, **{"x-amz-date": None}), "IncompleteSignature"),
    "not a date": (lambda one: changed(one, **{"x-amz-date": "yesterday"}), "IncompleteSignature"),
    "no such date": (lambda one: _on_day(one, "20159930T123600Z"), "IncompleteSignature"),
}


def _replaced(request: Request, old: str, new: str) -> Request:
    return changed(request, authorization=request.headers["authorization"].replace(old, new))


def _cut_signature(request: Request, proof: str) -> Request:
    head, _, _ = request.headers["authorization"].rpartition("Signature=")
    return changed(request, authorization=f"{head}Signature={proof}")


def _on_day(request: Request, stamp: str) -> Request:
    return _replaced(changed(request, **{"x-amz-date": stamp}), "/20150830/", f"/{stamp[:8]}/")


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_was_changed_after_signing_is_refused(forgery: str) -> None:
    change, code = FORGERIES[forgery]
    assert refusal(change(sign())) == code


def test_the_clock_may_be_five_minutes_off() -> None:
    for seconds in (-299, 299):
        assert verifier(NOW + seconds)(sign(), SQS)
    for seconds in (-301, 301):
        assert refusal(sign(), now=NOW + seconds) == "SignatureDoesNotMatch"


def test_a_wrong_secret_and_a_signature_for_another_service_are_refused() -> None:
    assert refusal(sign(secret="wrong")) == "SignatureDoesNotMatch"
    assert refusal(sign(service="sns")) == "SignatureDoesNotMatch"
    assert refusal(sign(region="not a region")) == "SignatureDoesNotMatch"


def test_a_presigned_url_says_how_long_it_lives() -> None:
    request = sign("GET", "/", "", b"", presigned=60)
    for old, new in (("Expires=60", "Expires=604801"), ("Expires=60", "Expires=0"), ("Expires=60", "Expires=x")):
        assert refusal(replace(request, query=request.query.replace(old, new))) == "IncompleteSignature"
    assert refusal(replace(request, query=request.query + "&X-Amz-Date=20150830T123600Z")) == "IncompleteSignature"
    assert refusal(replace(request, query=request.query.replace("Expires=60", "Expires=61"))) == "SignatureDoesNotMatch"


def test_the_hash_of_the_body_is_checked_where_it_is_named() -> None:
    request = sign(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"{}").hexdigest()})
    assert verifier()(request, SQS)
    assert refusal(replace(request, body=b"{ }")) == "SignatureDoesNotMatch"
    unsigned = sign(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert verifier()(replace(unsigned, body=b"whatever"), SQS)


# --- chunks


def test_signed_chunks_are_put_together_and_none_can_be_changed() -> None:
    seed, key, scope = "a" * 64, b"k" * 32, "20150830/us-east-1/sqs/aws4_request"

    def chunk(piece: bytes, before: str) -> tuple[bytes, str]:
        import hmac

        empty = hashlib.sha256(b"").hexdigest()
        hashed = hashlib.sha256(piece).hexdigest()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{STAMP}\n{scope}\n{before}\n{empty}\n{hashed}"
        proof = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return f"{len(piece):x};chunk-signature={proof}\r\n".encode() + piece + b"\r\n", proof

    one, proof = chunk(b"hello ", seed)
    two, proof = chunk(b"world", proof)
    end, _ = chunk(b"", proof)
    assert decoded(one + two + end, seed, key, scope, STAMP) == b"hello world"
    for wrong in (
        one + end,
        two + one + end,
        one + two,
        one + two.replace(b"world", b"World") + end,
        b"",
        b"x",
        one[:-1],
    ):
        with pytest.raises(Unauthenticated):
            decoded(wrong, seed, key, scope, STAMP)
