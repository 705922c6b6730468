"""`ftm versions`, `ftm rollback` and `ftm promote` read the status, write one annotation and say what comes of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ftm_operator.api.v1alpha1 import PROMOTE_ANNOTATION, SERVE_VERSION_ANNOTATION
from ftm_operator.command import live_status
from ftm_operator.local.errors import LocalError
from ftm_operator.runtime.cluster import ApiError
from tests.unit.operator.command.test_cli import ftm
from tests.unit.operator.objects import Manifest, resource

OLD, NEW, FIRST, BAD = "aaaa1111aaaa1111", "bbbb2222bbbb2222", "aaaa3333aaaa3333", "dddd4444dddd4444"
SERVING = {
    "key": OLD,
    "state": "Serving",
    "generation": 2,
    "uri": "s3://built/merge-2",
    "since": "2026-11-29T08:00:00Z",
}
CANARY = {"key": NEW, "state": "Canary", "weight": 10, "generation": 3, "since": "2026-11-29T09:00:00Z"}
KEPT = {"key": FIRST, "state": "Kept", "generation": 1, "since": "2026-11-29T08:00:00Z"}
FAILED = {"key": BAD, "state": "RolledBack", "generation": 3, "message": "4 of 20 requests failed"}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> "Model":
    found = Model()
    monkeypatch.setattr(live_status, "resource_of", lambda *_: found.manifest)
    monkeypatch.setattr(live_status, "annotate", lambda _, annotations: found.written.append(annotations))
    return found


class Model:
    """Stands in for the cluster's FineTunedModel, and keeps what is written to it."""

    def __init__(self) -> None:
        self.manifest: Manifest = resource("bot", serving={"strategy": "Canary", "gateway": {"name": "public"}})
        self.written: list[Mapping[str, str | None]] = []

    def has(
        self,
        *versions: Mapping[str, Any],
        pin: str | None = None,
        canary: tuple[str, int] | None = None,
        promoted: str | None = None,
        stalled: str | None = None,
    ) -> None:
        status: Manifest = {"versions": [dict(each) for each in versions]}
        if canary:
            status["canary"] = {"key": NEW, "state": canary[0], "step": canary[1], "promoted": promoted}
        if stalled:
            condition = {"type": "Stalled", "status": "True", "reason": stalled, "message": "m"}
            status["conditions"] = [
                {**condition, "lastTransitionTime": "2026-11-29T09:00:00Z", "observedGeneration": 3}
            ]
        self.manifest["status"] = status
        self.manifest["metadata"]["annotations"] = {SERVE_VERSION_ANNOTATION: pin} if pin else {}


def test_rollback_during_a_canary_removes_it(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(CANARY, SERVING, KEPT)
    assert ftm(capsys, "rollback", "bot") == (
        0,
        (
            f"bot is to serve version {OLD}: the Canary {NEW} gets no more requests and is removed. "
            "The spec is as it was; `ftm promote bot` goes back to what it means.\n"
        ),
        "",
    )
    assert model.written == [{SERVE_VERSION_ANNOTATION: OLD}]


def test_rollback_without_a_canary_takes_the_version_that_served_before(
    capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    earlier = {**KEPT, "key": NEW, "since": "2026-11-29T07:00:00Z"}
    model.has(SERVING, earlier, KEPT)
    code, out, _ = ftm(capsys, "rollback", "bot")
    assert (code, model.written) == (0, [{SERVE_VERSION_ANNOTATION: FIRST}])
    assert f"its Pods take the place of those of {OLD}, and nothing is built anew" in out


def test_a_second_rollback_goes_further_back_and_not_to_what_the_first_one_left(
    capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    left = {**KEPT, "key": NEW, "generation": 3, "since": "2026-11-29T10:00:00Z"}
    model.has(SERVING, left, KEPT, pin=OLD)
    assert ftm(capsys, "rollback", "bot")[0] == 0
    assert model.written == [{SERVE_VERSION_ANNOTATION: FIRST}]


def test_a_rollback_with_nothing_earlier_writes_nothing(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(SERVING)
    code, _, err = ftm(capsys, "rollback", "bot")
    assert (code, model.written) == (2, [])
    assert err == (
        f"ftm: no version of bot earlier than {OLD} is kept, and spec.serving.keptVersions says how many are: put the "
        "former sources into the spec\n"
    )


def test_to_names_a_version_by_its_first_digits(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(CANARY, SERVING, KEPT)
    assert ftm(capsys, "rollback", "bot", "--to", "aaaa3")[0] == 0
    assert model.written == [{SERVE_VERSION_ANNOTATION: FIRST}]
    there = f"{NEW} (Canary), {OLD} (Serving), {FIRST} (Kept)"
    for prefix, sentence in (
        ("aaaa", f"--to aaaa names 2 versions of bot; write more digits: {there}"),
        ("aaa", f"--to 'aaa' is too short; write 4 digits or more of a key of bot: {there}"),
        ("ffff", f"bot has no version ffff; it has {there}"),
    ):
        assert ftm(capsys, "rollback", "bot", "--to", prefix) == (2, "", f"ftm: {sentence}\n")


def test_what_was_rolled_back_is_not_kept_and_cannot_be_brought_back(
    capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    model.has(FAILED, SERVING)
    assert ftm(capsys, "rollback", "bot", "--to", BAD)[2] == (
        f"ftm: version {BAD} of bot was rolled back and is not kept (4 of 20 requests failed); `ftm promote bot` tries "
        "it again\n"
    )


def test_a_version_that_is_asked_for_already_is_not_written_again(
    capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    model.has(SERVING, pin=OLD)
    assert "it serves already" in ftm(capsys, "rollback", "bot", "--to", OLD)[1]
    assert model.written == []


def test_promote_after_a_rollback_lets_the_spec_decide_again(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(SERVING, KEPT, pin=OLD)
    assert ftm(capsys, "promote", "bot") == (
        0,
        (
            f"bot serves what its spec means again: version {OLD} is no longer asked for. Another version comes by the "
            "steps of its Canary.\n"
        ),
        "",
    )
    assert model.written == [{SERVE_VERSION_ANNOTATION: None}]


@pytest.mark.parametrize(
    ("arguments", "canary", "value", "sentence"),
    [
        ([], ("Sharing", 0), f"{NEW}/0", f"the Canary {NEW} of bot gets 50 percent of the requests."),
        ([], ("Sharing", 1), f"{NEW}/1", f"the Canary {NEW} of bot gets all requests."),
        (["--all"], ("Sharing", 0), NEW, f"the Canary {NEW} of bot gets all requests."),
        (["--all"], ("Starting", 0), NEW, f"the Canary {NEW} of bot gets all requests as soon as its Pods answer."),
    ],
)
def test_promote_lets_a_canary_go_on(
    capsys: pytest.CaptureFixture[str],
    model: Model,
    arguments: list[str],
    canary: tuple[str, int],
    value: str,
    sentence: str,
) -> None:
    model.has(CANARY, SERVING, canary=canary)
    assert ftm(capsys, "promote", "bot", *arguments) == (0, f"{sentence}\n", "")
    assert model.written == [{PROMOTE_ANNOTATION: value}]


def test_a_value_that_the_operator_has_followed_already_is_not_written_again(
    capsys: pytest.CaptureFixture[str], model: Model
) -> None:
    model.has(CANARY, SERVING, canary=("Sharing", 0), promoted=NEW)
    ftm(capsys, "promote", "bot", "--all")
    model.has({**FAILED, "promoted": BAD}, SERVING, stalled="RolledBack")
    ftm(capsys, "promote", "bot")
    assert [each[PROMOTE_ANNOTATION] for each in model.written] == [f"{NEW}/all", f"{BAD}/again"]


def test_promote_tries_again_what_was_rolled_back(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(FAILED, SERVING, canary=("Leaving", 0), stalled="RolledBack")
    assert ftm(capsys, "promote", "bot")[1] == (
        f"bot tries version {BAD} again, from the first step of its Canary. It was rolled back before: 4 of 20 "
        "requests failed\n"
    )
    assert model.written == [{PROMOTE_ANNOTATION: BAD}]


def test_a_version_of_an_earlier_spec_is_not_tried_again(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(FAILED, SERVING)
    assert ftm(capsys, "promote", "bot")[0] == 2
    assert model.written == []


def test_where_nothing_waits_for_a_person_promote_says_so(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(SERVING, KEPT)
    assert ftm(capsys, "promote", "bot") == (
        2,
        "",
        (
            "ftm: bot has no Canary, no version that `ftm rollback` asked for, and none that was rolled back: nothing "
            "is to be promoted\n"
        ),
    )
    model.has(CANARY, SERVING, canary=("Replacing", 2))
    assert ftm(capsys, "promote", "bot")[2] == (
        f"ftm: the Canary {NEW} of bot has its last step behind it; nothing waits for you\n"
    )
    assert model.written == []


@pytest.mark.parametrize("command", ["versions", "rollback", "promote"])
def test_a_model_that_never_served_has_no_versions(
    capsys: pytest.CaptureFixture[str], model: Model, command: str
) -> None:
    model.has()
    assert ftm(capsys, command, "bot") == (
        2,
        "",
        "ftm: no version of bot has served yet; see `kubectl describe ftm bot`\n",
    )


def test_versions_lists_them(capsys: pytest.CaptureFixture[str], model: Model) -> None:
    model.has(CANARY, {**SERVING, "weight": 90}, FAILED, pin=OLD)
    assert ftm(capsys, "versions", "bot")[1] == (
        "KEY               STATE       WEIGHT  SINCE                 ARTIFACT\n"
        f"{NEW}  Canary        10 %  2026-11-29T09:00:00Z\n"
        f"{OLD}  Serving       90 %  2026-11-29T08:00:00Z  s3://built/merge-2\n"
        f"{BAD}  RolledBack\n"
        "                  4 of 20 requests failed\n"
        f"\nftm.dev/serve-version asks for {OLD}; `ftm promote bot` removes that\n"
    )
    assert [each["key"] for each in json.loads(ftm(capsys, "versions", "bot", "-o", "json")[1])] == [NEW, OLD, BAD]


def test_a_right_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise ApiError("PATCH /apis/ftm.dev/v1alpha1", 403, 'User "eve" cannot patch')

    monkeypatch.setattr(live_status, "_annotate", refuse)
    with pytest.raises(LocalError) as refused:
        live_status.annotate(resource("bot"), {PROMOTE_ANNOTATION: NEW})
    assert str(refused.value) == (
        'FineTunedModel team-a/bot cannot be annotated: PATCH /apis/ftm.dev/v1alpha1: 403 User "eve" cannot patch; it '
        "takes the right to patch finetunedmodels in this namespace, which the role `edit` has"
    )
