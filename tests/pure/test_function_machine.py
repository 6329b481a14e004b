"""The rules of functions: names, versions, aliases, permissions, concurrency, URLs, layers, tags."""

from __future__ import annotations

from typing import Any

import pytest

from minicloud.function import commands as ask
from minicloud.function import limits, names, policies
from minicloud.function.functions import shown_sha256
from minicloud.function.model import LATEST, Code, Cors, Statement
from tests.pure.function_bench import HOME, STRANGER, Bench, package

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
INVALID, MODEL, MISSING, TAKEN = (
    "InvalidParameterValueException",
    "ValidationException",
    "ResourceNotFoundException",
    "ResourceConflictException",
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_function_is_made_with_the_defaults_of_the_api(bench: Bench) -> None:
    made = bench.function()
    assert (made.arn, made.version) == (f"{ARN}:{LATEST}", LATEST)
    settings = made.settings
    assert (settings.memory_mib, settings.timeout_s, settings.ephemeral_mib) == (128, 3, 512)
    assert made.log_group == "/aws/lambda/f"
    bench.refused(TAKEN, ask.CreateFunction(HOME, "f", ask.Given(), package("2")), "Function already exist: f")


@pytest.mark.parametrize(
    ("code", "fields", "text"),
    [
        (INVALID, {"runtime": ""}, "Runtime and Handler are mandatory"),
        (INVALID, {"handler": ""}, "Runtime and Handler are mandatory"),
        (INVALID, {"runtime": "java21"}, "java21 is not supported"),
        (MODEL, {"handler": "a b"}, "'handler'"),
        (
            MODEL,
            {"memory_mib": 127},
            "'127' at 'memorySize' failed to satisfy constraint: Member must have",
        ),
        (MODEL, {"memory_mib": 32_769}, "less than or equal to 32768"),
        (MODEL, {"timeout_s": 0}, "'timeout'"),
        (MODEL, {"timeout_s": 5_401}, "less than or equal to 5400"),
        (MODEL, {"ephemeral_mib": 511}, "'ephemeralStorage.size'"),
        (MODEL, {"role": "nobody"}, "'role'"),
        (MODEL, {"env": {"1x": ""}}, "'environment.variables'"),
        (INVALID, {"env": {"AWS_REGION": "x"}}, "Reserved keys used in this request: AWS_REGION"),
        (INVALID, {"env": {"BIG": "x" * 4_096}}, "exceeded the 4KB limit"),
        (INVALID, {"dead_letter": "arn:aws:s3:::b"}, "neither a queue nor a topic"),
        (INVALID, {"dead_letter": "arn:aws:sqs:us-east-1:111111111111:q"}, "account and region"),
        (INVALID, {"layers": ("arn:aws:lambda:us-east-1:000000000000:layer:l:1",)}, "does not exist"),
        (MODEL, {"log_format": "XML"}, "[JSON, Text]"),
        (INVALID, {"log_application": "DEBUG"}, "LogFormat JSON"),
        (MODEL, {"description": "x" * 257}, "less than or equal to 256"),
    ],
)
def test_configuration_that_is_refused(bench: Bench, code: str, fields: dict[str, Any], text: str) -> None:
    given = ask.Given(**{"runtime": "python3.11", "handler": "main.run"} | fields)
    bench.refused(code, ask.CreateFunction(HOME, "f", given, package("1")), text)


@pytest.mark.parametrize("name", ["f", "function:f", "000000000000:function:f", ARN, "us-east-1:000000000000:f"])
def test_every_form_of_a_name(bench: Bench, name: str) -> None:
    bench.function()
    assert names.resolve(bench.state, HOME, name).version.arn == f"{ARN}:{LATEST}"


def test_names_that_lead_nowhere(bench: Bench) -> None:
    bench.function()
    look = lambda text, qualifier="", scope=HOME: names.resolve(bench.state, scope, text, qualifier)  # noqa: E731
    for code, call in (
        (MISSING, lambda: look("g")),
        (MISSING, lambda: look("f", "7")),
        (MISSING, lambda: look("f:prod")),
        (MISSING, lambda: look(ARN, scope=STRANGER)),
        (MISSING, lambda: look("arn:aws:lambda:eu-west-1:000000000000:function:f")),
        (INVALID, lambda: look("f:1", "2")),
        (MODEL, lambda: look("a/b")),
        (MODEL, lambda: look("f", "a.b")),
    ):
        with pytest.raises(Exception) as caught:
            call()
        assert getattr(caught.value, "code", "") == code, caught.value


def test_versions_are_published_once_and_never_change(bench: Bench) -> None:
    first = bench.function(publish=True)
    assert first.version == "1"
    assert bench.publish() == first
    bench.submit(ask.UpdateCode(HOME, "f", package("2")))
    second = bench.publish()
    assert (second.version, second.code) == ("2", package("2"))
    bench.submit(ask.UpdateSettings(HOME, "f", ask.Given(memory_mib=256)))
    assert bench.state.versions[f"{ARN}:2"].settings.memory_mib == 128
    bench.submit(ask.DeleteFunction(HOME, "f", "2"))
    assert bench.publish().version == "3"
    assert [one.version for one in bench.state.versions_of(ARN)] == [LATEST, "1", "3"]


def test_updates_check_what_they_were_made_for(bench: Bench) -> None:
    made = bench.function()
    after = bench.submit(ask.UpdateCode(HOME, "f", package("2"), revision=made.revision))
    bench.refused("PreconditionFailedException", ask.UpdateCode(HOME, "f", package("3"), revision=made.revision))
    bench.refused(INVALID, ask.PublishVersion(HOME, "f", code_sha256=shown_sha256(made.code)), "is different from")
    assert bench.submit(ask.PublishVersion(HOME, "f", code_sha256=shown_sha256(after.code))).version == "1"
    dry = bench.submit(ask.UpdateCode(HOME, "f", package("4"), dry_run=True))
    assert dry.code == package("4") and bench.state.latest(ARN).code == package("2")


def test_a_function_goes_with_all_that_hangs_on_it(bench: Bench) -> None:
    bench.function(publish=True)
    bench.alias("prod", "1")
    bench.submit(ask.AddPermission(HOME, "f", Statement("s", policies.INVOKE, "sns.amazonaws.com"), "prod"))
    bench.submit(ask.CreateUrl(HOME, "f", "NONE", "prod"))
    bench.submit(ask.SetProvisioned(HOME, "f", "prod", 2))
    bench.submit(ask.SetEventInvoke(HOME, "f", "prod", retries=1))
    bench.submit(ask.DeleteFunction(HOME, "f"))
    state = bench.state
    assert not state.functions and not state.versions and not state.aliases and not state.policies
    assert not state.urls and not state.by_url and not state.provisioned and not state.event_invokes
    assert not state.packages and not state.code_bytes(HOME)


def test_a_version_that_an_alias_needs_stays(bench: Bench) -> None:
    bench.function(publish=True)
    bench.alias("prod", "1")
    bench.refused(TAKEN, ask.DeleteFunction(HOME, "f", "1"), "used by aliases")
    bench.refused(INVALID, ask.DeleteFunction(HOME, "f", LATEST), "$LATEST version cannot be deleted")
    bench.submit(ask.DeleteAlias(HOME, "f", "prod"))
    bench.submit(ask.DeleteFunction(HOME, "f", "1"))


def test_an_alias_shares_invocations_out(bench: Bench) -> None:
    bench.function(publish=True)
    bench.submit(ask.UpdateCode(HOME, "f", package("2"), publish=True))
    bench.alias("prod", "1", weights={"2": 0.25})
    target = names.resolve(bench.state, HOME, "f:prod")
    assert target.arn == f"{ARN}:prod"
    chosen = [names.choose(bench.state, target, lot / 100).version for lot in range(100)]
    assert chosen.count("2") == 25
    bench.submit(ask.UpdateCode(HOME, "f", package("3"), publish=True))
    for code, weights in (
        (MODEL, {"2": 1.5}),
        (INVALID, {"1": 0.5}),
        (INVALID, {"2": 0.5, "3": 0.1}),
        (INVALID, {LATEST: 0.5}),
        (MISSING, {"4": 0.5}),
    ):
        bench.refused(code, ask.UpdateAlias(HOME, "f", "prod", weights=weights))


def test_aliases_are_named_and_found(bench: Bench) -> None:
    bench.function(publish=True)
    bench.refused(MODEL, ask.CreateAlias(HOME, "f", "12", "1"))
    bench.refused(MISSING, ask.CreateAlias(HOME, "f", "prod", "2"))
    made = bench.alias("prod", "1")
    bench.refused(TAKEN, ask.CreateAlias(HOME, "f", "prod", "1"), f"Alias already exists: {ARN}:prod")
    bench.refused(MISSING, ask.UpdateAlias(HOME, "f", "test"), f"Cannot find alias arn: {ARN}:test")
    bench.refused("PreconditionFailedException", ask.UpdateAlias(HOME, "f", "prod", revision="old"))
    after = bench.submit(ask.UpdateAlias(HOME, "f", "prod", version=LATEST, revision=made.revision))
    assert after.version == LATEST and after.revision != made.revision


def test_permissions_narrow_down_who_may(bench: Bench) -> None:
    bench.function()
    topic = "arn:aws:sns:us-east-1:000000000000:news"
    bench.submit(
        ask.AddPermission(HOME, "f", Statement("s", policies.INVOKE, "sns.amazonaws.com", topic, "000000000000"))
    )
    policy = bench.state.policies[ARN]
    assert policies.allows(policy, policies.INVOKE, "sns.amazonaws.com", topic)
    assert not policies.allows(policy, policies.INVOKE, "sns.amazonaws.com", topic + "2")
    assert not policies.allows(policy, policies.INVOKE, "events.amazonaws.com", topic)
    assert not policies.allows(policy, policies.INVOKE_URL, "sns.amazonaws.com", topic)
    assert not policies.allows(None, policies.INVOKE, "*")
    found = policies.document(policy)["Statement"][0]
    assert found["Principal"] == {"Service": "sns.amazonaws.com"} and found["Resource"] == ARN
    assert found["Condition"]["ArnLike"] == {"AWS:SourceArn": topic}
    bench.refused(TAKEN, ask.AddPermission(HOME, "f", Statement("s", policies.INVOKE, "*")), "already exists")
    bench.refused(INVALID, ask.AddPermission(HOME, "f", Statement("t", policies.INVOKE, "you")), "principal")
    bench.refused(INVALID, ask.AddPermission(HOME, "f", Statement("t", policies.INVOKE, "*"), LATEST), "$LATEST")
    bench.refused(MISSING, ask.RemovePermission(HOME, "f", "t"))
    bench.submit(ask.RemovePermission(HOME, "f", "s"))
    assert ARN not in bench.state.policies


def test_reserved_concurrency_leaves_some_for_the_rest(bench: Bench) -> None:
    bench.function("f")
    bench.function("g")
    assert bench.submit(ask.SetReserved(HOME, "f", 500)) == 500
    bench.refused(INVALID, ask.SetReserved(HOME, "g", 401), "below its minimum value of [100]")
    bench.submit(ask.SetReserved(HOME, "g", 400))
    bench.submit(ask.SetReserved(HOME, "f", None))
    assert bench.state.reserved(HOME) == 400
    bench.refused(MODEL, ask.SetReserved(HOME, "f", -1))


def test_provisioned_concurrency_is_for_what_does_not_change(bench: Bench) -> None:
    bench.function(publish=True)
    bench.alias("prod", "1")
    bench.alias("head", LATEST)
    for qualifier in ("", LATEST, "head"):
        bench.refused(INVALID, ask.SetProvisioned(HOME, "f", qualifier, 1), "unpublished")
    bench.submit(ask.SetReserved(HOME, "f", 5))
    bench.refused(INVALID, ask.SetProvisioned(HOME, "f", "prod", 6), "function [5]")
    bench.submit(ask.SetProvisioned(HOME, "f", "prod", 5))
    bench.refused(TAKEN, ask.SetProvisioned(HOME, "f", "1", 1), "already Provisioned")
    bench.refused(INVALID, ask.SetReserved(HOME, "f", 4), "[5]")
    bench.submit(ask.SetProvisioned(HOME, "f", "prod", None))
    bench.refused("ProvisionedConcurrencyConfigNotFoundException", ask.SetProvisioned(HOME, "f", "prod", None))


def test_event_invoke_configs_are_put_whole_or_in_part(bench: Bench) -> None:
    bench.function()
    bench.refused(MISSING, ask.SetEventInvoke(HOME, "f", retries=1, whole=False))
    queue = "arn:aws:sqs:us-east-1:000000000000:bad"
    bench.submit(ask.SetEventInvoke(HOME, "f", retries=1, on_failure=queue))
    after = bench.submit(ask.SetEventInvoke(HOME, "f", age_s=60, whole=False))
    assert (after.retries, after.age_s, after.on_failure, after.arn) == (1, 60, queue, f"{ARN}:{LATEST}")
    after = bench.submit(ask.SetEventInvoke(HOME, "f", age_s=90))
    assert (after.retries, after.age_s, after.on_failure) == (None, 90, "")
    for fields in ({"retries": 3}, {"age_s": 59}, {"age_s": 21_601}):
        bench.refused(MODEL, ask.SetEventInvoke(HOME, "f", **fields))
    bench.refused(INVALID, ask.SetEventInvoke(HOME, "f", on_success="arn:aws:s3:::b"))
    bench.submit(ask.DeleteEventInvoke(HOME, "f"))
    bench.refused(MISSING, ask.DeleteEventInvoke(HOME, "f"))


def test_urls_belong_to_functions_and_aliases(bench: Bench) -> None:
    bench.function(publish=True)
    made = bench.submit(ask.CreateUrl(HOME, "f", "NONE", cors=Cors(origins=("https://a.example",), methods=("GET",))))
    assert bench.state.by_url[made.id] == made
    bench.refused(TAKEN, ask.CreateUrl(HOME, "f", "NONE"), "FunctionUrlConfig exists")
    bench.refused(MODEL, ask.CreateUrl(HOME, "f", "NONE", "1"))
    bench.refused(MODEL, ask.UpdateUrl(HOME, "f", auth="COOKIE"))
    bench.refused(MODEL, ask.UpdateUrl(HOME, "f", cors=Cors(methods=("TRACE",))))
    after = bench.submit(ask.UpdateUrl(HOME, "f", auth="AWS_IAM", streams=True))
    assert (after.auth, after.streams, after.cors) == ("AWS_IAM", True, made.cors)
    bench.submit(ask.DeleteUrl(HOME, "f"))
    bench.refused(MISSING, ask.DeleteUrl(HOME, "f"))


def test_layers_are_numbered_and_kept_while_they_are_used(bench: Bench) -> None:
    one = bench.submit(ask.PublishLayer(HOME, "libs", package("a")))
    two = bench.submit(ask.PublishLayer(HOME, "libs", package("b")))
    assert [layer.number for layer in bench.state.layer_versions_of(one.layer)] == [2, 1]
    bench.function(layers=(two.arn,))
    bench.refused(TAKEN, ask.DeleteLayer(HOME, "libs", 2), "is used by")
    bench.submit(ask.DeleteLayer(HOME, "libs", 1))
    bench.submit(ask.DeleteLayer(HOME, "libs", 1))
    assert bench.submit(ask.PublishLayer(HOME, "libs", package("c"))).number == 3
    given = ask.Given(layers=(two.arn, two.arn))
    bench.refused(INVALID, ask.UpdateSettings(HOME, "f", given), "Two different versions of the same layer")
    big = bench.submit(ask.PublishLayer(HOME, "big", Code("d" * 64, 1, limits.UNZIPPED_BYTES_MAX)))
    bench.refused(INVALID, ask.UpdateSettings(HOME, "f", ask.Given(layers=(big.arn,))), "exceeds the maximum")


def test_the_account_has_so_much_room_for_code(bench: Bench) -> None:
    bench.function(code=Code("1" * 64, limits.STORAGE_BYTES_MAX - 1, 1))
    bench.refused("CodeStorageExceededException", ask.PublishVersion(HOME, "f"), "Code storage limit exceeded.")


def test_tags_of_functions_and_mappings(bench: Bench) -> None:
    bench.function()
    assert bench.submit(ask.SetTags(HOME, ARN, {"a": "1", "b": "2"})) == {"a": "1", "b": "2"}
    assert bench.submit(ask.SetTags(HOME, ARN, remove=("a",))) == {"b": "2"}
    mapping = bench.mapping()
    assert bench.submit(ask.SetTags(HOME, mapping.arn, {"c": "3"})) == {"c": "3"}
    bench.refused(MISSING, ask.SetTags(STRANGER, ARN, {"c": "3"}))
    bench.refused(INVALID, ask.SetTags(HOME, ARN, {"aws:x": "3"}))
