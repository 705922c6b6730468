"""Decides which version is to serve, and which is to get a share of the requests before it does. Pure.

A new version goes straight to what serves. With strategy Canary, where one serves that is kept, it goes first through
the states of `status.canary`:

    Starting -> Sharing (a step after the other) -> Replacing -> Leaving -> done
        \\            \\---------> Leaving (rolled back)
         \\---------> Leaving

In Starting and Leaving no request goes to the canary. Its pods end only once the Gateway has followed. A pass makes at
most one transition; what it decides depends on status and on the cluster alone, so that another operator goes on.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ftm_operator.api.reasons import OperatorReason
from ftm_operator.api.spec.canary import Canary
from ftm_operator.api.spec.serving_children import Probes
from ftm_operator.api.v1alpha1 import SERVE_VERSION_ANNOTATION, CanaryProgress, CanaryState, Version
from ftm_operator.observe.canary.pods import of_stable
from ftm_operator.observe.rollout import RolledOut, rollout
from ftm_operator.observe.warnings import explained
from ftm_operator.reconcile.holds import Hold
from ftm_operator.reconcile.passes import Context, Effects
from ftm_operator.reconcile.serving_children.around import deleted
from ftm_operator.reconcile.serving_children.children import serving_children
from ftm_operator.reconcile.serving_children.routes import follows, no_route
from ftm_operator.reconcile.versions.canary_children import canary_state
from ftm_operator.reconcile.versions.history import Kept, kept_versions
from ftm_operator.reconcile.versions.judgement import Judged, judged, refused
from ftm_operator.reconcile.versions.promotion import goes_on, promotion, takes_all
from ftm_operator.reconcile.versions.sentences import (
    all_awaited,
    gateway_awaited,
    pinned,
    replacing,
    rolled_back,
    sharing,
    starting,
    unknown_version,
)
from ftm_operator.resources.metadata import NAME, Manifest
from ftm_operator.resources.serving.deployment import surges
from ftm_operator.resources.serving.kept_template import key_of
from ftm_operator.resources.versions.stored_version import StoredVersion

FOLLOWED_SECONDS = 5.0
"""The time for which a canary's pods stay after the last request may have been sent to them."""
UNFOLLOWED_SECONDS = 60.0
"""The time after which they end although no Gateway has followed."""


@dataclass(frozen=True)
class Course:
    """The versions that are to be there after a pass."""

    stable: StoredVersion
    """The version of what serves."""
    is_of_spec: bool = False
    """It is the version that the spec means."""
    canary: StoredVersion | None = None
    weight: int = 0
    """The canary's share of the requests, in percent."""
    progress: CanaryProgress | None = None
    hold: Hold | None = None
    """The reason for which not all is as the spec says."""
    said: str = ""
    failed: Version | None = None
    """The canary that was rolled back in this pass."""
    effects: Effects = field(default_factory=Effects)


def choose_course(context: Context, spec: StoredVersion) -> Course:
    """Returns the course of a pass. `spec` is the version that the spec means."""
    if spec.plan.mode == "Dynamic":
        return without_canary(context, _of_adapters(context, spec))
    kept = kept_versions(context)
    serving = _serving(context, spec, kept)
    asked = context.model.metadata.annotations.get(SERVE_VERSION_ANNOTATION)
    if asked and asked != spec.key:
        if asked not in kept:
            hold = unknown_version(asked, [spec.key, *kept])
            return without_canary(context, Course(serving or spec, hold=hold))
        return without_canary(context, Course(kept[asked].version, said=pinned(context.model, asked, spec.key)))
    before = context.before.canary
    if asked or context.model.spec.serving.strategy != "Canary":
        return without_canary(context, _straight(spec))
    if before and before.key == spec.key and _replaces(context, spec, before):
        return _replacing(context, spec, before.model_copy(update={"state": "Replacing"}))
    if serving is None or serving.pods_hash == spec.pods_hash:
        return without_canary(context, _straight(spec))
    return _by_canary(context, serving, spec)


def _straight(spec: StoredVersion) -> Course:
    return Course(spec, is_of_spec=True)


def without_canary(context: Context, course: Course) -> Course:
    """Returns the course with what is left of a canary on its way out: first its requests, then its pods."""
    before, now = context.before.canary, context.now
    left = deleted(context, *context.observed.canaries, context.observed.canary_service)
    if before is None and not left:
        return course
    since = before.since if before and before.state == "Leaving" else None
    if since and _is_unused(context, course, since):
        return replace(course, effects=course.effects + Effects(left))
    key = before.key if before else next((key for child in context.observed.canaries if (key := key_of(child))), "")
    progress = _progress(key, before.step if before else 0, "Leaving", since or now)
    waits = Hold("Deploying", OperatorReason.CANARY, f"the Pods of canary {key} end once no request goes to them")
    hold = replace(course.hold or waits, retry_after=FOLLOWED_SECONDS)
    return replace(course, progress=progress, hold=hold)


def _is_unused(context: Context, course: Course, since: datetime) -> bool:
    waited = (context.now - since).total_seconds()
    if waited >= UNFOLLOWED_SECONDS or context.model.spec.serving.gateway is None:
        return True
    return waited >= FOLLOWED_SECONDS and follows(context, course.stable.plan, 0)


def _replaces(context: Context, spec: StoredVersion, own: CanaryProgress) -> bool:
    """Tells whether a canary's version takes the old one's place, be it that no status could be written since."""
    live, _ = serving_children(context, spec.kind)
    return own.state == "Replacing" or (own.state != "Leaving" and live is not None and key_of(live) == spec.key)


def _of_adapters(context: Context, spec: StoredVersion) -> Course:
    if SERVE_VERSION_ANNOTATION not in context.model.metadata.annotations:
        return _straight(spec)
    message = (
        f"the annotation {SERVE_VERSION_ANNOTATION} names a version, and mode Dynamic keeps none, since adapters come "
        "and go beside one base; remove the annotation"
    )
    return Course(spec, True, hold=Hold("Failed", OperatorReason.VERSION_NOT_FOUND, message, stalled=True))


def _serving(context: Context, spec: StoredVersion, kept: dict[str, Kept]) -> StoredVersion | None:
    """Returns the version that serves, if it is kept: it has answered, or is about to after its canary did."""
    live, other = serving_children(context, spec.kind)
    found = (kept.get(key_of(child) or "") for child in (live, other) if child)
    return next((each.version for each in found if each), None)


def _by_canary(context: Context, serving: StoredVersion, spec: StoredVersion) -> Course:
    """Returns the next pass of a canary of the spec's version beside the one that serves."""
    if refusal := no_route(context) or refused(context, serving, spec):
        return without_canary(context, Course(serving, hold=refusal))
    before = context.before.canary
    own = before if before and before.key == spec.key and before.state != "Leaving" else None
    if own is None:
        former = next((each for each in context.before.versions or () if _is_rolled_back(each, spec.key)), None)
        again = promotion(context.model, spec.key)
        if former and (again is None or again == former.promoted):
            return without_canary(context, Course(serving, hold=rolled_back(context.model, former)))
        own = _progress(spec.key, 0, "Starting", context.now, again)
    state = canary_state(context, spec, own.since if own.state == "Sharing" else None)
    if own.state == "Starting" and state.failure is None and not state.answer and _is_overdue(context, own):
        state = replace(
            state, failure=f"its Pods did not answer in {_patience(context).total_seconds():.0f} s: {state.message}"
        )
    if state.failure:
        return _failed(context, serving, spec, own, state.failure)
    course = Course(serving, canary=spec)
    if not state.answer:
        starts = own if own.state == "Starting" else _progress(own.key, own.step, "Starting", context.now, own.promoted)
        unexplained, warning = explained(state.unexplained, context.observed.warnings)
        said = "; ".join(filter(None, (state.message, warning)))
        left = (starts.since or context.now) + _patience(context) - context.now
        hold = replace(starting(spec.key, said), retry_after=max(1.0, left.total_seconds()))
        return replace(course, progress=starts, hold=hold, effects=Effects(unexplained=unexplained))
    return _sharing(context, course, own)


def _sharing(context: Context, course: Course, own: CanaryProgress) -> Course:
    """Returns the pass of a canary whose pods answer."""
    assert course.canary
    asked = context.model.spec.serving.canary or Canary()
    number = min(own.step, len(asked.steps) - 1)
    if own.state == "Starting":
        own = _progress(own.key, number, "Sharing", None, own.promoted)
    step, value = asked.steps[number], promotion(context.model, own.key)
    own = own.model_copy(update={"step": number})
    if own.since is None and follows(context, course.stable.plan, step.weight):
        own = own.model_copy(update={"since": context.now.replace(microsecond=0)})
    verdict = judged(context, course.stable, course.canary, own.since) if own.since else Judged()
    if verdict.failure:
        return _failed(context, course.stable, course.canary, own, verdict.failure)
    ends = own.since + timedelta(seconds=step.pause_seconds) if own.since and step.pause_seconds is not None else None
    is_over = ends is not None and context.now >= ends and verdict.goes_on
    if takes_all(own, value) or (number + 1 == len(asked.steps) and (is_over or goes_on(own, value))):
        return _replacing(context, course.canary, _progress(own.key, number, "Replacing", context.now, own.promoted))
    if is_over or goes_on(own, value):
        own = _progress(own.key, number + 1, "Sharing", None, own.promoted)
        return replace(
            course, weight=asked.steps[number + 1].weight, progress=own, hold=gateway_awaited(own, asked.steps)
        )
    if own.since is None:
        hold = gateway_awaited(own, asked.steps)
    else:
        hold = sharing(context.model, own, asked.steps, ends, verdict.message)
        if ends and context.now < ends:
            hold = replace(hold, retry_after=(ends - context.now).total_seconds())
    effects = Effects(canary_question=verdict.question)
    return replace(course, weight=step.weight, progress=own, hold=hold, effects=effects)


def _replacing(context: Context, spec: StoredVersion, own: CanaryProgress) -> Course:
    """Returns the pass in which the canary's version takes the place of the old one."""
    live, _ = serving_children(context, spec.kind)
    pods = of_stable(context.observed.pods(NAME, context.model.metadata.name))
    if live and key_of(live) == spec.key and isinstance(rollout(live, pods), RolledOut):
        return without_canary(context, _straight(spec))
    steps, weight = (context.model.spec.serving.canary or Canary()).steps, 0
    if canary_state(context, spec, None).answer:
        weight = 100 if _leaves_a_gap(spec, live) else steps[min(own.step, len(steps) - 1)].weight
        former = _serving(context, spec, kept_versions(context))
        if weight == 100 and former and former.key != spec.key and not follows(context, former.plan, weight):
            return Course(former, canary=spec, weight=weight, progress=own, hold=all_awaited(own.key))
    return Course(spec, True, spec, weight, own, said=replacing(own.key, weight))


def _leaves_a_gap(spec: StoredVersion, live: Manifest | None) -> bool:
    """Tells whether no pod of what serves answers while the version takes its place: the only one ends first."""
    return live is not None and live["spec"].get("replicas", 1) <= 1 and not surges(spec.child)


def _failed(context: Context, serving: StoredVersion, spec: StoredVersion, own: CanaryProgress, why: str) -> Course:
    failed = Version(
        key=spec.key,
        state="RolledBack",
        uri=spec.uri,
        digest=spec.digest,
        generation=spec.generation,
        since=context.now.replace(microsecond=0),
        message=why,
        promoted=promotion(context.model, spec.key) or own.promoted,
    )
    return without_canary(context, Course(serving, hold=rolled_back(context.model, failed), failed=failed))


def _progress(
    key: str, step: int, state: CanaryState, since: datetime | None, promoted: str | None = None
) -> CanaryProgress:
    moment = since.replace(microsecond=0) if since else None
    return CanaryProgress(key=key, step=step, state=state, since=moment, promoted=promoted)


def _is_rolled_back(version: Version, key: str) -> bool:
    return version.key == key and version.state == "RolledBack"


def _patience(context: Context) -> timedelta:
    """Returns how long pods of a canary may take to answer, as a Deployment's do."""
    return timedelta(seconds=2 * (context.model.spec.serving.probes or Probes()).startup_seconds)


def _is_overdue(context: Context, own: CanaryProgress) -> bool:
    return own.since is not None and context.now - own.since > _patience(context)
